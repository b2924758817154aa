// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestHandOff is about how containers are told their GPUs on nodes of different configurations. The lab's policies name
// the RuntimeClass nvidia for pods that name none.
func TestHandOff(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	const cdi, bare, nri = berthv1alpha1.DeviceFormCDI, berthv1alpha1.DeviceFormUUID, berthv1alpha1.DeviceFormNRI
	qualified := func(uuid string) string { return "runtime.nvidia.com/gpu=" + uuid }

	t.Run("by qualified names where nothing is known", func(t *testing.T) {
		s := newSite(t, lab, "unknown", 2, "80Gi")
		pod, a := s.place(s.pod("p", "100Gi", counts("2"), injected))
		want := qualified(a.Devices[0].UUID) + "," + qualified(a.Devices[1].UUID)
		if got := pod.Annotations[berthv1alpha1.AnnotationVisibleDevices]; got != want || pod.Annotations[berthv1alpha1.AnnotationGPUUUIDs] != a.UUIDs() {
			t.Errorf("visible devices are %q, want %q, of %s", got, want, a.UUIDs())
		}
		wantReference(t, pod, "server")
	})

	t.Run("in the form that the node takes", func(t *testing.T) {
		for name, tc := range map[string]struct {
			accepts []berthv1alpha1.DeviceForm
			want    func(string) string
		}{
			"operator": {[]berthv1alpha1.DeviceForm{cdi}, qualified},
			"auto":     {[]berthv1alpha1.DeviceForm{cdi, bare}, qualified},
			"legacy":   {[]berthv1alpha1.DeviceForm{bare}, func(uuid string) string { return uuid }},
			"nri":      {[]berthv1alpha1.DeviceForm{nri}, func(string) string { return "void" }},
		} {
			s := newSite(t, lab, name, 1, "80Gi")
			s.takes(tc.accepts...)
			pod, _ := s.place(s.pod(name, "30Gi", injected))
			if got := pod.Annotations[berthv1alpha1.AnnotationVisibleDevices]; got != tc.want(s.gpu(0)) {
				t.Errorf("%s: visible devices are %q", name, got)
			}
			want := ""
			if name == "nri" {
				want = "berth.dev/gpu=" + s.gpu(0)
			}
			if got := pod.Annotations[berthv1alpha1.NRIAnnotationPrefix+"server"]; got != want {
				t.Errorf("%s: an NRI plugin is told %q, want %q", name, got, want)
			}
		}
	})

	t.Run("not at all where the runtime takes nothing, until it does", func(t *testing.T) {
		s := newSite(t, lab, "none", 1, "80Gi")
		s.edit = func(g *berthtesting.GPUNode) { g.Runtime("nvidia").Message("set x = true in config.toml") }
		s.Report(t, s.report())
		pod := harness.Create(t, lab, s.pod("p", "30Gi", injected))
		s.waits(pod, gpustate.ReasonNoHandOff)
		if msg := lab.WaitUnschedulable(t, pod); !strings.Contains(msg, "on node none: set x = true in config.toml") {
			t.Errorf("message %q does not say what to set", msg)
		}
		s.takes(cdi)
		lab.WaitBound(t, pod)
	})

	t.Run("as an admin says, whatever is reported", func(t *testing.T) {
		s := newSite(t, lab, "override", 1, "80Gi")
		s.takes()
		pod := harness.Create(t, lab, s.pod("p", "30Gi", injected))
		s.waits(pod, gpustate.ReasonNoHandOff)
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"berth.dev/hand-off":"UUID"}}}`))
		if err := lab.Client.Patch(t.Context(), s.node, patch); err != nil {
			t.Fatal(err)
		}
		if bound, _ := lab.WaitBound(t, pod); bound.Annotations[berthv1alpha1.AnnotationVisibleDevices] != s.gpu(0) {
			t.Errorf("annotations %v", bound.Annotations)
		}
	})

	t.Run("a reference to bare UUIDs by hand goes where they are taken", func(t *testing.T) {
		operator, legacy := newSite(t, lab, "by-hand-operator", 1, "80Gi"), newSite(t, lab, "by-hand-legacy", 1, "80Gi")
		operator.takes(cdi)
		legacy.takes(bare)
		pod := harness.Create(t, lab, operator.pod("p", "30Gi", toUUIDs, on("by-hand-operator", "by-hand-legacy")))
		if bound, _ := lab.WaitBound(t, pod); bound.Spec.NodeName != "by-hand-legacy" || bound.Annotations[berthv1alpha1.AnnotationVisibleDevices] != legacy.gpu(0) {
			t.Errorf("on %s with %v", bound.Spec.NodeName, bound.Annotations)
		}
		operator.waits(harness.Create(t, lab, operator.pod("q", "30Gi", toUUIDs)), gpustate.ReasonOnlyUUIDs)
	})

	t.Run("only where the handler of the RuntimeClass is", func(t *testing.T) {
		s := newSite(t, lab, "handler", 1, "80Gi")
		s.setHandlers("", "runc")
		pod := harness.Create(t, lab, s.pod("p", "30Gi", injected))
		s.waits(pod, gpustate.ReasonNoRuntimeHandler)
		s.setHandlers("", "runc", "nvidia")
		lab.WaitBound(t, pod)
	})

	t.Run("to a native sidecar, and to several containers", func(t *testing.T) {
		s := newSite(t, lab, "several", 1, "80Gi")
		always := func(c *corev1.Container) { c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways) }
		pod, a := s.place(s.pod("sidecar", "30Gi", injected, annotated(berthv1alpha1.AnnotationContainer, "engine"), initContainer("engine", always)))
		if a == nil {
			t.Fatal("no allocation")
		}
		wantReference(t, pod, "engine")
		pod, _ = s.place(s.pod("several", "30Gi", injected, annotated(berthv1alpha1.AnnotationContainer, "server,convert"),
			initContainer("convert"), initContainer("fetch"), initContainer("proxy", always)))
		wantReference(t, pod, "server", "convert")
		err := lab.Client.Create(t.Context(), s.pod("hidden", "1Gi", initContainer("convert", func(c *corev1.Container) {
			c.Env = berthtesting.MakePod("x").Spec.Containers[0].Env
		})))
		if err == nil || !strings.Contains(err.Error(), "init containers can get GPUs when named in berth.dev/container") {
			t.Errorf("an init container with the reference that is not named: %v", err)
		}
	})

	t.Run("and nobody else says so", func(t *testing.T) {
		s := newSite(t, lab, "forged", 1, "80Gi")
		bound, _ := s.place(s.pod("p", "30Gi", injected))
		for key, value := range map[string]string{
			berthv1alpha1.AnnotationVisibleDevices:       qualified("all"),
			berthv1alpha1.NRIAnnotationPrefix + "server": "nvidia.com/gpu=all",
			"nvidia.cdi.k8s.io/pod":                      "nvidia.com/gpu=all",
			"cdi.k8s.io/x":                               "nvidia.com/gpu=all",
		} {
			if err := lab.Client.Create(t.Context(), s.pod("forged", "1Gi", annotated(key, value))); !apierrors.IsForbidden(err) {
				t.Errorf("a pod with %s: %v", key, err)
			}
			plain := s.pod("forged", "1Gi", annotated(key, value))
			delete(plain.Annotations, berthv1alpha1.AnnotationGPUMemory)
			plain.Spec.SchedulerName, plain.Spec.Containers[0].Env = corev1.DefaultSchedulerName, nil
			if err := lab.Client.Create(t.Context(), plain); !apierrors.IsForbidden(err) {
				t.Errorf("a pod of the default scheduler with %s: %v", key, err)
			}
			patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: value}}})
			if err != nil {
				t.Fatal(err)
			}
			if err := lab.Client.Patch(t.Context(), bound.DeepCopy(), client.RawPatch("application/merge-patch+json", patch)); !apierrors.IsForbidden(err) {
				t.Errorf("%s on a running pod: %v", key, err)
			}
		}
	})
}

// injected leaves the reference to the GPUs to admission.
func injected(p *corev1.Pod) { p.Spec.Containers[0].Env = nil }

// toUUIDs refers to bare UUIDs by hand.
func toUUIDs(p *corev1.Pod) {
	p.Spec.Containers[0].Env[0].ValueFrom.FieldRef.FieldPath = berthv1alpha1.GPUUUIDsFieldPath
}

// on lets a pod choose among sites.
func on(sites ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.NodeSelector = nil
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "site", Operator: corev1.NodeSelectorOpIn, Values: sites}},
			}}},
		}}
	}
}

func initContainer(name string, edits ...func(*corev1.Container)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := corev1.Container{Name: name, Image: "example.test/" + name + ":1"}
		for _, edit := range edits {
			edit(&c)
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
}

// takes reports in which forms the node's runtime handler nvidia takes GPUs.
func (s *site) takes(forms ...berthv1alpha1.DeviceForm) {
	s.t.Helper()
	s.edit = func(g *berthtesting.GPUNode) { g.Runtime("nvidia", forms...) }
	s.Report(s.t, s.report())
}

// waits waits until a pod is told a reason.
func (s *site) waits(pod *corev1.Pod, reason alloc.Reason) {
	s.t.Helper()
	if msg := s.WaitUnschedulable(s.t, pod); !strings.Contains(msg, string(reason)) {
		s.t.Errorf("pod %s is told %q, want %q", pod.Name, msg, reason)
	}
}

// setHandlers sets the runtime handlers that the node's kubelet lists.
func (s *site) setHandlers(names ...string) {
	s.t.Helper()
	handlers := make([]corev1.NodeRuntimeHandler, len(names))
	for i, name := range names {
		handlers[i].Name = name
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"runtimeHandlers": handlers}})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.Client.Status().Patch(s.t.Context(), s.node.DeepCopy(), client.RawPatch("application/merge-patch+json", patch)); err != nil {
		s.t.Fatal(err)
	}
}

// wantReference checks that the named containers take their GPUs from the allocation, and that all others see none.
func wantReference(t *testing.T, pod *corev1.Pod, names ...string) {
	t.Helper()
	want := map[string]bool{}
	for _, name := range names {
		want[name] = true
	}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if refers := berthv1alpha1.HasReference(&c) && !berthv1alpha1.WantsUUIDs(&c); refers != want[c.Name] {
			t.Errorf("container %s has the reference: %v, want %v", c.Name, refers, want[c.Name])
		}
		if !want[c.Name] && (len(c.Env) != 1 || c.Env[0].Value != berthv1alpha1.VisibleDevicesVoid) {
			t.Errorf("container %s has %v", c.Name, c.Env)
		}
	}
}
