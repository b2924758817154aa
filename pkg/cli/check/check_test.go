// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/berth-dev/berth/pkg/cli/gpumap"
)

func TestHealthy(t *testing.T) {
	r := Judge(healthy())
	for _, g := range r.Groups {
		for _, c := range g.Checks {
			if c.Status != OK {
				t.Errorf("%s %s: %s", c.Status, c.ID, c.Message)
			}
		}
	}
	if r.Status != OK || !r.Passes(true) {
		t.Errorf("status %s: %d failures, %d warnings, %d not checked", r.Status, r.Failures, r.Warnings, r.Unknown)
	}
}

// TestBroken breaks one thing of a healthy cluster after the other, and wants it found, and nothing else.
func TestBroken(t *testing.T) {
	for _, tt := range slices.Concat(installFaults, runningFaults, optionFaults) {
		t.Run(tt.name, func(t *testing.T) {
			f := healthy()
			tt.breaks(t, f)
			var got *Result
			for _, g := range Judge(f).Groups {
				for i := range g.Checks {
					switch c := &g.Checks[i]; {
					case c.Status == OK:
					case c.ID == tt.id && c.Status == tt.status && strings.Contains(c.Message, tt.message):
						got = c
					case !slices.Contains(tt.also, c.ID):
						t.Errorf("found too: %s %s: %s", c.Status, c.ID, c.Message)
					}
				}
			}
			if got == nil {
				t.Fatalf("not found: %s %s: …%s…", tt.status, tt.id, tt.message)
			}
			if lines := strings.Join(got.Run, "\n"); !strings.Contains(lines, tt.run) || tt.run == "" && got.See == "" && len(got.Run) == 0 && tt.status != Unknown {
				t.Errorf("to run %q, to read %q; want %q", lines, got.See, tt.run)
			}
		})
	}
}

// TestOnALab: scheduler, controller and agents are no pods there, and nothing is wrong with that.
func TestOnALab(t *testing.T) {
	f := healthy()
	f.Deployments, f.DaemonSets, f.Pods = nil, nil, nil
	r := Judge(f)
	if r.Failures+r.Warnings != 0 || r.Unknown != 1 { // the versions, which only images tell
		t.Errorf("%d failures, %d warnings, %d not checked", r.Failures, r.Warnings, r.Unknown)
	}
	delete(f.Installed, "ClusterRole berth-scheduler")
	for _, g := range Judge(f).Groups {
		for _, c := range g.Checks {
			if c.Status == Failed && !slices.Equal(c.Run, []string{"kubectl apply -k manifests/rbac"}) {
				t.Errorf("%s: run %q", c.ID, c.Run)
			}
		}
	}
}

// TestNothingMayBeRead: whoever may read nothing is told so, and nothing is guessed.
func TestNothingMayBeRead(t *testing.T) {
	f := &Facts{Self: "v1", KubeSelf: version.MajorMinor(1, 37), Unread: map[string]string{}, Installed: map[string]Found{}, Settings: gpumap.DefaultSettings()}
	f.Time, f.LeasesUnknown = now, true
	for _, what := range []string{
		Nodes, Pods, GPUNodes, ModelProfiles, Leases, ConfigMaps, RuntimeClasses, DRA, Deployments, DaemonSets, Events, LeaderTerms, Quotas, ServerVersion, MutatingVersion,
	} {
		f.Unread[what] = "you may not"
	}
	for _, o := range Needed("v1") {
		f.Installed[KeyOf(o)] = Found{Unread: "you may not"}
	}
	r := Judge(f)
	for _, g := range r.Groups {
		if len(g.Checks) == 0 {
			t.Errorf("%s: nothing is said", g.ID)
		}
		for _, c := range g.Checks {
			if c.Status != Unknown {
				t.Errorf("%s %s: %s", c.Status, c.ID, c.Message)
			}
		}
	}
	if !r.Passes(false) || r.Passes(true) {
		t.Error("what could not be checked fails, but with --strict only")
	}
}

// TestOfAFile: of what a snapshot has a part of, nothing is said to be well.
func TestOfAFile(t *testing.T) {
	f := healthy()
	handOff := "MutatingAdmissionPolicy berth-handoff"
	f.FromFile, f.Server, f.Installed = true, nil, map[string]Found{handOff: f.Installed[handOff]}
	for _, what := range []string{ServerVersion, Deployments, DaemonSets, Events, LeaderTerms, Quotas} {
		f.Unread[what] = InFile
	}
	for _, g := range Judge(f).Groups {
		for _, c := range g.Checks {
			switch {
			case c.Status == Failed || c.Status == Warning:
				t.Errorf("%s %s: %s", c.Status, c.ID, c.Message)
			case c.Status == OK && slices.Contains([]string{"crds", "policies", "rights"}, g.ID):
				t.Errorf("%s is well, of which the file has not all: %s", c.ID, c.Message)
			case c.Status == Unknown && slices.Contains([]string{idFresh, idHandOff, idRuntimeClass, idSchedulerLease, idServed}, c.ID):
				t.Errorf("%s is not known, which the file tells: %s", c.ID, c.Message)
			}
		}
	}
}

func TestRender(t *testing.T) {
	f := healthy()
	delete(f.Installed, "ValidatingAdmissionPolicyBinding berth-devices")
	f.Nodes[0].Spec.Unschedulable = true
	f.Unread[Events] = "you may not"
	r := Judge(f)
	var plain, coloured bytes.Buffer
	if err := r.Render(&plain, false); err != nil {
		t.Fatal(err)
	}
	if err := r.Render(&coloured, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\n  × failed: not enforced: berth-devices: its binding does not exist\n      run: kubectl apply -k berth\n      see: docs/security.md#when-policies-are-missing\n",
		"\n  ! warning: 1 node with GPUs is cordoned\n      of: gpu-a\n      run: kubectl uncordon gpu-a\n",
		"\n  ? not checked: what the scheduler found of the policies is not known: Events could not be read: you may not\n",
		"\n  ✓ Kubernetes 1.37 is supported\n",
		"\nBerth is not set up right: 1 failed, 1 warning and 1 could not be checked.\n",
	} {
		if !strings.Contains("\n"+plain.String(), want) {
			t.Errorf("%q is missing in\n%s", want, plain.String())
		}
	}
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(coloured.String(), "\x1b[31m×\x1b[0m failed: ") {
		t.Errorf("colours:\n%s", coloured.String())
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ APIVersion, Kind, Status string }
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"cli.berth.dev/v1alpha1", "Check", "failed"}, []string{got.APIVersion, got.Kind, got.Status}); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
