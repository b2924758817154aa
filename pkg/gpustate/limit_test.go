// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

const (
	byNobody  = berthv1alpha1.EnforcementNone
	byToolkit = berthv1alpha1.EnforcementToolkit
	bySharing = berthv1alpha1.EnforcementGPUSharing
)

// TestLimitOn: who limits a pod on which node, and which pods a node refuses for it.
func TestLimitOn(t *testing.T) {
	const unknown berthv1alpha1.MemoryLimitState = ""
	const enforced, ignored, fails = berthv1alpha1.MemoryLimitEnforced, berthv1alpha1.MemoryLimitIgnored, berthv1alpha1.MemoryLimitFails
	sharing := func(s corev1.ConditionStatus) []corev1.NodeCondition {
		return []corev1.NodeCondition{{Type: "gpu-fractioning.nvidia.com/Ready", Status: s}}
	}
	older := []corev1.NodeCondition{{Type: "gpu-sharing.nvidia.com/Ready", Status: corev1.ConditionTrue}}
	told, half := HandOff{LimitTold: LimitToldAll}, HandOff{LimitTold: LimitToldSome}
	untold := HandOff{}
	together := HandOff{LimitTold: LimitToldAll, RunAtOnce: true}
	for _, tc := range []struct {
		name       string
		argument   berthv1alpha1.Enforcement
		pod        HandOff
		form       berthv1alpha1.DeviceForm
		limits     berthv1alpha1.MemoryLimitState
		conditions []corev1.NodeCondition
		want       berthv1alpha1.Enforcement
		reason     alloc.Reason
	}{
		{name: "as ever: no argument", pod: untold, form: cdi, limits: enforced, conditions: sharing(corev1.ConditionTrue), want: byNobody},
		{name: "nobody by argument", argument: byNobody, pod: untold, form: cdi, limits: enforced, want: byNobody},

		{name: "the toolkit, on a node that enforces", argument: byToolkit, pod: told, form: cdi, limits: enforced, want: byToolkit},
		{name: "the toolkit, and a pod that was made before: it would have no limit beside those that have", argument: byToolkit, pod: untold, form: cdi, limits: enforced, reason: ReasonNoLimitReference},
		{name: "the toolkit, and one of two containers has no limit", argument: byToolkit, pod: half, form: cdi, limits: enforced, reason: ReasonNoLimitReference},
		{name: "the toolkit, and two containers would get the booking each", argument: byToolkit, pod: together, form: cdi, limits: enforced, reason: ReasonSharedLimit},
		{name: "the toolkit, and names that need not lead to its hook", argument: byToolkit, pod: told, form: bare, limits: enforced, reason: ReasonLimitsUnknown},
		{name: "the toolkit, on a node whose own is older", argument: byToolkit, pod: told, form: cdi, limits: ignored, want: byNobody},
		{name: "the toolkit, on a node by NRI", argument: byToolkit, pod: told, form: nri, limits: ignored, want: byNobody},
		{name: "the toolkit, and containers that share on a node without limits", argument: byToolkit, pod: together, form: cdi, limits: ignored, want: byNobody},
		{name: "the toolkit, and a driver that cannot", argument: byToolkit, pod: told, form: cdi, limits: fails, reason: ReasonLimitsFail},
		{name: "the toolkit, and a driver that cannot, for a pod without a limit", argument: byToolkit, pod: untold, form: cdi, limits: fails, want: byNobody},
		{name: "the toolkit, on a node of which nothing is known", argument: byToolkit, pod: told, form: cdi, limits: unknown, reason: ReasonLimitsUnknown},
		{name: "the toolkit, on a node of which nothing is known, for a pod without a limit", argument: byToolkit, pod: untold, form: cdi, limits: unknown, want: byNobody},

		{name: "GPU sharing, on a node that enforces", argument: bySharing, pod: untold, form: cdi, conditions: sharing(corev1.ConditionTrue), want: bySharing},
		{name: "GPU sharing, by UUIDs", argument: bySharing, pod: untold, form: bare, conditions: sharing(corev1.ConditionTrue), want: bySharing},
		{name: "GPU sharing, on a node that has none", argument: bySharing, pod: untold, form: cdi, limits: enforced, want: byNobody},
		{name: "GPU sharing, on a node of its predecessor, which limits nothing", argument: bySharing, pod: untold, form: cdi, conditions: older, want: byNobody},
		{name: "GPU sharing that is down", argument: bySharing, pod: untold, form: cdi, conditions: sharing(corev1.ConditionFalse), reason: ReasonGPUSharingNotReady},
		{name: "GPU sharing whose operator is gone", argument: bySharing, pod: untold, form: cdi, conditions: sharing(corev1.ConditionUnknown), reason: ReasonGPUSharingNotReady},
		{name: "GPU sharing, where an NRI plugin hands over the devices", argument: bySharing, pod: untold, form: nri, conditions: sharing(corev1.ConditionTrue), reason: ReasonLimitsUnknown},
		{name: "GPU sharing, and two containers would get the booking each", argument: bySharing, pod: HandOff{RunAtOnce: true}, form: cdi, conditions: sharing(corev1.ConditionTrue), reason: ReasonSharedLimit},
		{name: "GPU sharing, and a name that its keys have no room for", argument: bySharing, pod: HandOff{NoGPUSharing: true}, form: cdi, conditions: sharing(corev1.ConditionTrue), reason: ReasonLongSharingName},
	} {
		t.Run(tc.name, func(t *testing.T) {
			gn := bt.MakeGPUNodeOf(testNode, 1, "80Gi").Runtime("nvidia", tc.form)
			if tc.limits != "" {
				gn.Status.HandOff.Runtimes[0].MemoryLimits = &berthv1alpha1.MemoryLimits{State: tc.limits}
			}
			f := newFixture(t)
			f.report(gn)
			report, _ := f.Store.Report(testNode, 0)
			node := bt.MakeNode(testNode)
			node.Status.Conditions = tc.conditions
			tc.pod.Handler, tc.pod.Enforcement = "nvidia", tc.argument
			if got, reason := tc.pod.LimitOn(node, report, tc.form); got != tc.want || reason != tc.reason {
				t.Errorf("limited by %q, %q, want %q, %q", got, reason, tc.want, tc.reason)
			}
			// Filter, hints and kubectl berth ask for the form only.
			if form, reason := tc.pod.FormOn(node, report); reason != tc.reason || (form == "") != (reason != "") {
				t.Errorf("form %q, %q, want the reason %q", form, reason, tc.reason)
			}
		})
	}
}

// TestLimitsOfAPod: what of a pod decides whether it can be limited.
func TestLimitsOfAPod(t *testing.T) {
	limited := []corev1.EnvVar{
		{Name: berthv1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: berthv1alpha1.VisibleDevicesFieldPath}}},
		{Name: berthv1alpha1.EnvGPUMemoryLimit, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: berthv1alpha1.GPUMemoryLimitFieldPath}}},
	}
	always := ptr.To(corev1.ContainerRestartPolicyAlways)
	for _, tc := range []struct {
		name   string
		of     string // berth.dev/container
		server []corev1.EnvVar
		others []corev1.Container
		inits  []corev1.Container
		want   HandOff
	}{
		{name: "one container", want: HandOff{}},
		{name: "one container with a limit", server: limited, want: HandOff{LimitTold: LimitToldAll}},
		{
			name: "an init container ends before the container starts", of: "server,convert", server: limited,
			inits: []corev1.Container{{Name: "convert", Env: limited}}, want: HandOff{LimitTold: LimitToldAll},
		},
		{
			name: "an init container that has no limit", of: "server,convert", server: limited,
			inits: []corev1.Container{{Name: "convert"}}, want: HandOff{LimitTold: LimitToldSome},
		},
		{
			name: "a sidecar beside it", of: "server,side", server: limited,
			inits: []corev1.Container{{Name: "side", Env: limited, RestartPolicy: always}}, want: HandOff{LimitTold: LimitToldAll, RunAtOnce: true},
		},
		{
			name: "a sidecar alone", of: "side", want: HandOff{LimitTold: LimitToldAll},
			inits: []corev1.Container{{Name: "side", Env: limited, RestartPolicy: always}},
		},
		{
			name: "a sidecar beside an init container", of: "side,convert", want: HandOff{RunAtOnce: true},
			inits: []corev1.Container{{Name: "side", RestartPolicy: always}, {Name: "convert"}},
		},
		{
			name: "two containers", of: "server,other", server: limited,
			others: []corev1.Container{{Name: "other", Env: limited}}, want: HandOff{LimitTold: LimitToldAll, RunAtOnce: true},
		},
		{
			name: "a container that starts again by a rule of its own is no sidecar", of: "server,convert",
			inits: []corev1.Container{{Name: "convert", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyNever)}}, want: HandOff{},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := bt.MakePod("a").Memory("30Gi").Obj()
			if tc.of != "" {
				pod.Annotations[berthv1alpha1.AnnotationContainer] = tc.of
			}
			pod.Spec.Containers[0].Env = tc.server
			pod.Spec.Containers = append(pod.Spec.Containers, tc.others...)
			pod.Spec.InitContainers = tc.inits
			r, _, err := requestOf(pod)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, r.HandOff); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestWhatLimitersAreTold: 30.5 GiB and 100 bytes are 31232 MiB, rounded down.
func TestWhatLimitersAreTold(t *testing.T) {
	memory := alloc.BytesOf(31232<<20 + 100)
	gpus := []alloc.DeviceShare{{UUID: "GPU-a", Memory: memory}, {UUID: "GPU-b", Memory: memory}}
	const visible = "runtime.nvidia.com/gpu=GPU-a,runtime.nvidia.com/gpu=GPU-b"
	for _, tc := range []struct {
		name string
		by   berthv1alpha1.Enforcement
		of   Allocation
		want map[string]string
		err  string
	}{
		{"nobody", byNobody, Allocation{Devices: gpus}, map[string]string{}, ""},
		{"the toolkit", byToolkit, Allocation{Devices: gpus}, map[string]string{"berth.dev/gpu-memory-limit": "31232"}, ""},
		{"GPU sharing, for each container", bySharing, Allocation{Devices: gpus}, map[string]string{
			"nvidia.com/container.server.gpus.devices":        visible,
			"nvidia.com/container.server.gpu-memory.request":  "31232Mi",
			"nvidia.com/container.server.gpu-memory.limit":    "31232Mi",
			"nvidia.com/container.convert.gpus.devices":       visible,
			"nvidia.com/container.convert.gpu-memory.request": "31232Mi",
			"nvidia.com/container.convert.gpu-memory.limit":   "31232Mi",
		}, ""},
		{"MIG instances have no other limit than their size", byToolkit, Allocation{Devices: gpus[:1], Parents: []string{"GPU-p"}}, map[string]string{}, ""},
		{
			"unequal shares, which are not made", byToolkit,
			Allocation{Devices: []alloc.DeviceShare{gpus[0], {UUID: "GPU-b", Memory: alloc.GiB(1)}}}, nil, "one limit for all its GPUs",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := map[string]string{berthv1alpha1.AnnotationVisibleDevices: visible}
			err := tc.of.addLimit(got, tc.by, []string{"server", "convert"})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want one that says %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			delete(got, berthv1alpha1.AnnotationVisibleDevices)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSharesAreEvenWhereThereAreLimits: two GPUs were measured at 50Gi and 40Gi, and a limit is one for both. Each books its
// peak and 2 % more, or both what the fuller one does.
func TestSharesAreEvenWhereThereAreLimits(t *testing.T) {
	pod := bt.MakePod("p").Model("hf://org/llama-8b").GPUCount("2")
	settings, err := EngineSettings(pod.Obj())
	if err != nil {
		t.Fatal(err)
	}
	profile := profileOf(t, berthv1alpha1.ObservedPeak{
		Namespace: "default", Settings: settings, GPUCount: 2,
		Devices: []resource.Quantity{resource.MustParse("50Gi"), resource.MustParse("40Gi")},
	})
	for even, want := range map[bool][]alloc.Bytes{false: {alloc.GiB(51), alloc.MiB(40 * 1024 * 102 / 100)}, true: {alloc.GiB(51), alloc.GiB(51)}} {
		o, _ := sized(t, pod, profile, Sizing{EvenShares: even})
		if len(o.Shares) != 2 || o.Shares[0] != want[0] || o.Shares[1].Minus(want[1]).Compare(alloc.MiB(1)) > 0 || want[1].Minus(o.Shares[1]).Compare(alloc.MiB(1)) > 0 {
			t.Errorf("even %v: booked %s, want %s", even, o.Shares, want)
		}
	}
}
