// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

func TestDecodeArgs(t *testing.T) {
	raw := func(s string) runtime.Object { return &runtime.Unknown{Raw: []byte(s)} }
	d := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	defaults := func(change func(*Args)) *Args {
		headroom := resource.MustParse("256Mi")
		a := &Args{
			Headroom: &headroom, StaleAfter: d(time.Minute), LoadTimeout: d(15 * time.Minute), MaxMinRuntime: d(time.Hour),
			MemoryReturnTimeout: d(2 * time.Minute), WaitBeforeEviction: d(30 * time.Second), PreemptionDelay: d(0), BindTimeout: d(4 * time.Second), Strategy: alloc.MostAllocated,
			DRADrivers: &[]string{"gpu.nvidia.com"}, PolicyCheckInterval: d(5 * time.Minute), OnMissingPolicies: Report,
			Enforcement:  berthv1alpha1.EnforcementNone,
			WarmWeight:   ptr.To[int32](1),
			OnDeviceLost: berthv1alpha1.ActionIgnore, DeviceLostGrace: d(5 * time.Minute), OnOveruse: berthv1alpha1.ActionEvent,
		}
		change(a)
		return a
	}
	for _, tc := range []struct {
		name string
		in   runtime.Object
		want *Args
		err  string
	}{
		{name: "no pluginConfig", in: nil, want: defaults(func(*Args) {})},
		{name: "empty arguments", in: raw("{}"), want: defaults(func(*Args) {})},
		{name: "one set, the others with their defaults", in: raw(`{"apiVersion":"berth.dev/v1alpha1","kind":"BerthArgs","staleAfter":"30s"}`), want: defaults(func(a *Args) {
			a.StaleAfter, a.TypeMeta = d(30*time.Second), metav1.TypeMeta{APIVersion: "berth.dev/v1alpha1", Kind: "BerthArgs"}
		})},
		{name: "zero means never stale, not the default", in: raw(`{"staleAfter":"0s","headroom":"0","maxMinRuntime":"0s"}`), want: defaults(func(a *Args) {
			zero := resource.MustParse("0")
			a.StaleAfter, a.Headroom, a.MaxMinRuntime = d(0), &zero, d(0)
		})},
		{name: "another strategy", in: raw(`{"strategy":"Fragmentation","trustObservedPeaks":true}`), want: defaults(func(a *Args) {
			a.Strategy, a.TrustObservedPeaks = alloc.Fragmentation, true
		})},
		{name: "no DRA driver, and GPUs of another name", in: raw(`{"draDrivers":[],"gpuResources":["example.test/gpu"]}`), want: defaults(func(a *Args) {
			a.DRADrivers, a.GPUResources = &[]string{}, []string{"example.test/gpu"}
		})},
		{name: "a driver that is none", in: raw(`{"draDrivers":["gpu.nvidia.com","NVIDIA"]}`), err: "draDrivers[1]"},
		{name: "a resource that is none", in: raw(`{"gpuResources":["a/b/c"]}`), err: "gpuResources[0]"},
		{name: "limits that are enforced", in: raw(`{"enforcement":"NVIDIAToolkit"}`), want: defaults(func(a *Args) { a.Enforcement = berthv1alpha1.EnforcementToolkit })},
		{name: "limits that are enforced by nobody known", in: raw(`{"enforcement":"nvidia"}`), err: `"NVIDIAGPUSharing"`},
		{name: "warm places count for nothing", in: raw(`{"warmWeight":0}`), want: defaults(func(a *Args) { a.WarmWeight = ptr.To[int32](0) })},
		{name: "cold places are preferred", in: raw(`{"warmWeight":-1}`), err: "warmWeight"},
		{name: "nothing but warm places counts", in: raw(`{"warmWeight":101}`), err: "must be 0 to 100"},
		{name: "a misspelt field", in: raw(`{"headrom":"1Gi"}`), err: "headrom"},
		{name: "another kind", in: raw(`{"kind":"NodeResourcesFitArgs"}`), err: "want args of kind BerthArgs"},
		{name: "another type", in: &corev1.Pod{}, err: "want args to be of type BerthArgs, got *v1.Pod"},
		{name: "a malformed quantity", in: raw(`{"headroom":"1Gib"}`), err: "decoding BerthArgs"},
		{name: "a malformed duration", in: raw(`{"staleAfter":"60"}`), err: "decoding BerthArgs"},
		{name: "negative headroom", in: raw(`{"headroom":"-1Gi"}`), err: "headroom"},
		{name: "negative duration", in: raw(`{"maxMinRuntime":"-1s"}`), err: "maxMinRuntime"},
		{name: "a node that is stale between two renewals", in: raw(`{"staleAfter":"5s"}`), err: "at least 15s"},
		{name: "no time to load", in: raw(`{"loadTimeout":"0s"}`), err: "loadTimeout"},
		{name: "no time to bind", in: raw(`{"bindTimeout":"1ms"}`), err: "bindTimeout"},
		{name: "no time for memory to come back", in: raw(`{"memoryReturnTimeout":"0s"}`), err: "memoryReturnTimeout"},
		{name: "an unknown strategy", in: raw(`{"strategy":"mostAllocated"}`), err: `"MostAllocated"`},
		{name: "stop placing, and a policy that is left out", in: raw(`{"onMissingPolicies":"StopPlacing","policiesLeftOut":["berth-handoff"]}`), want: defaults(func(a *Args) {
			a.OnMissingPolicies, a.PoliciesLeftOut = StopPlacing, []string{"berth-handoff"}
		})},
		{name: "policies are not checked", in: raw(`{"policyCheckInterval":"0s"}`), want: defaults(func(a *Args) { a.PolicyCheckInterval = d(0) })},
		{name: "stop placing on what is not checked", in: raw(`{"onMissingPolicies":"StopPlacing","policyCheckInterval":"0s"}`), err: "needs a policyCheckInterval"},
		{name: "policies are checked all the time", in: raw(`{"policyCheckInterval":"1ms"}`), err: "at least 1s"},
		{name: "something else on missing policies", in: raw(`{"onMissingPolicies":"Panic"}`), err: `"StopPlacing"`},
		{name: "pods of faulty GPUs are evicted", in: raw(`{"onDeviceLost":"Evict","deviceLostGrace":"0s","onOveruse":"Evict"}`), want: defaults(func(a *Args) {
			a.OnDeviceLost, a.DeviceLostGrace, a.OnOveruse = berthv1alpha1.ActionEvict, d(0), berthv1alpha1.ActionEvict
		})},
		{name: "a loss is no matter of Events alone", in: raw(`{"onDeviceLost":"Event"}`), err: `"Ignore"`},
		{name: "overuse is never ignored", in: raw(`{"onOveruse":"Ignore"}`), err: `"Event"`},
		{name: "a grace that is none", in: raw(`{"deviceLostGrace":"-1s"}`), err: "deviceLostGrace"},
		{name: "a policy that there is not", in: raw(`{"policiesLeftOut":["berth-allocations"]}`), err: `"berth-allocation"`},
		{name: "every mistake is named", in: raw(`{"headroom":"-1","strategy":"x"}`), err: "strategy"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Decode(tc.in)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one that says %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTheChartTakesEachArgument: its schema refuses what it does not know.
func TestTheChartTakesEachArgument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "charts", "berth", "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Scheduler struct {
				Properties struct {
					Args struct{ Properties map[string]any }
				}
			}
		}
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	known := schema.Properties.Scheduler.Properties.Args.Properties
	for f := range reflect.TypeFor[Args]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if _, ok := known[name]; !ok && name != "" {
			t.Errorf("%s is not among them", name)
		}
	}
}

// FuzzDecodeArgs: arguments are refused, or valid as they are used.
func FuzzDecodeArgs(f *testing.F) {
	f.Add([]byte(`{"headroom":"256Mi","staleAfter":"60s","strategy":"LeastAllocated"}`))
	f.Add([]byte(`{"headroom":null,"staleAfter":null}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		args, err := Decode(&runtime.Unknown{Raw: b})
		if err != nil {
			return
		}
		if err := args.Validate(); err != nil {
			t.Fatalf("accepted %q, which is invalid: %v", b, err)
		}
		if args.Headroom.Sign() < 0 || args.BindTimeout.Duration <= 0 || args.LoadTimeout.Duration <= 0 {
			t.Fatalf("accepted %q as %+v", b, args)
		}
	})
}
