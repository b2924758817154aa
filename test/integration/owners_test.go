// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestOtherOwners is about GPUs that somebody else gives away too: the device plugin, by whatever name, and drivers of
// dynamic resource allocation; and about GPUs that are cut into MIG instances.
func TestOtherOwners(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")

	for name, quantity := range map[corev1.ResourceName]string{
		"nvidia.com/gpu.shared": "8", "nvidia.com/mig-3g.40gb": "2", "nvidia.com/h100-small": "4",
	} {
		t.Run("a node that advertises "+string(name)+" gets nothing unless labelled", func(t *testing.T) {
			_, short, _ := strings.Cut(string(name), "/")
			s := newSite(t, lab, strings.ReplaceAll(short, ".", "-"), 1, "80Gi")
			s.setAllocatable(name, quantity)
			pod := harness.Create(t, lab, s.pod("p", "10Gi"))
			s.waitsFor(pod, string(gpustate.ReasonDevicePlugin))
			s.label(berthv1alpha1.LabelDevicePlugin, berthv1alpha1.DevicePluginShared)
			lab.WaitBound(t, pod)
		})
	}

	t.Run("a node that advertises NICs below nvidia.com is used", func(t *testing.T) {
		s := newSite(t, lab, "nics", 1, "80Gi")
		s.setAllocatable("nvidia.com/hostdev", "8")
		s.place(s.pod("p", "10Gi"))
	})

	t.Run("the empty GPU next to time-sliced ones is used", func(t *testing.T) {
		s := newSite(t, lab, "time-sliced", 2, "80Gi")
		s.setAllocatable("nvidia.com/gpu", "8")
		s.label(berthv1alpha1.LabelDevicePlugin, berthv1alpha1.DevicePluginShared)
		a, b := s.ofDevicePlugin("a", false), s.ofDevicePlugin("b", false)
		pod := harness.Create(t, lab, s.pod("p", "20Gi"))
		s.waitsFor(pod, string(gpustate.ReasonUnreportedDevicePod))
		s.edit = func(g *berthtesting.GPUNode) { g.At(s.gpu(0)).AssignedPods(a.UID, b.UID).At(s.gpu(1)) }
		s.Report(t, s.report())
		if _, got := lab.WaitBound(t, pod); got.Devices[0].UUID != s.gpu(1) {
			t.Errorf("on %s", got.Devices[0].UUID)
		}
	})

	t.Run("a pod whose init container had a GPU does not block its node", func(t *testing.T) {
		s := newSite(t, lab, "init", 1, "80Gi")
		s.setAllocatable("nvidia.com/gpu", "1")
		s.label(berthv1alpha1.LabelDevicePlugin, berthv1alpha1.DevicePluginShared)
		lab.WaitReady(t, s.ofDevicePlugin("prepared", true))
		s.place(s.pod("p", "20Gi"))
	})

	t.Run("what a claim holds is not booked, and is free once the claim is gone", func(t *testing.T) {
		s := newSite(t, lab, "claimed", 2, "80Gi")
		s.publish("gpu.nvidia.com")
		pod := harness.Create(t, lab, s.pod("p", "70Gi"))
		s.waitsFor(pod, string(gpustate.ReasonDRA))
		lab.Delete(t, pod, 0)

		first := s.claim("first", 1)
		user := harness.Create(t, lab, s.claiming("user", first.Name))
		lab.WaitReady(t, user)
		held := s.heldBy(first)
		s.label(berthv1alpha1.LabelDRA, berthv1alpha1.DRAShared)
		_, a := s.place(s.pod("beside", "70Gi"))
		if a.Devices[0].UUID == held {
			t.Fatalf("%s is the claim's", held)
		}
		second := harness.Create(t, lab, s.pod("second", "70Gi", grace(0)))
		lab.WaitUnschedulable(t, second)
		lab.Delete(t, user, 0)
		lab.WaitGone(t, user)
		// The controller that gives claims up does not run here.
		first.Status = resourcev1.ResourceClaimStatus{}
		if err := lab.Client.Get(t.Context(), client.ObjectKeyFromObject(first), first); err != nil {
			t.Fatal(err)
		}
		first.Status = resourcev1.ResourceClaimStatus{}
		if err := lab.Client.Status().Update(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if _, a := lab.WaitBound(t, second); a.Devices[0].UUID != held {
			t.Errorf("on %s, want %s", a.Devices[0].UUID, held)
		}
	})

	t.Run("all GPUs are held by claims", func(t *testing.T) {
		s := newSite(t, lab, "all-claimed", 2, "80Gi")
		s.publish("gpu.nvidia.com")
		s.label(berthv1alpha1.LabelDRA, berthv1alpha1.DRAShared)
		both := s.claim("both", 2)
		lab.WaitReady(t, harness.Create(t, lab, s.claiming("user", both.Name)))
		s.waitsFor(harness.Create(t, lab, s.pod("p", "10Gi")), string(gpustate.ReasonResourceClaimedDevices))
	})

	t.Run("a GPU that a DRA driver serves as nvidia.com/gpu is not booked", func(t *testing.T) {
		s := newSite(t, lab, "extended", 2, "80Gi")
		s.publish("gpu.nvidia.com")
		s.label(berthv1alpha1.LabelDRA, berthv1alpha1.DRAShared)
		class := &resourcev1.DeviceClass{}
		if err := lab.Client.Get(t.Context(), client.ObjectKey{Name: "extended-gpu.nvidia.com"}, class); err != nil {
			t.Fatal(err)
		}
		name := berthv1alpha1.ResourceNVIDIAGPU
		class.Spec.ExtendedResourceName = &name
		if err := lab.Client.Update(t.Context(), class); err != nil {
			t.Fatal(err)
		}
		user := s.pod("user", "1Gi")
		user.Annotations, user.Spec.Containers[0].Env = nil, nil
		user.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceName(name): resource.MustParse("1")}
		lab.WaitReady(t, harness.Create(t, lab, user))
		first, second := s.pod("first", "70Gi"), s.pod("second", "70Gi")
		s.place(first)
		s.waitsFor(harness.Create(t, lab, second), string(gpustate.ReasonInsufficientMemory))
		var claims resourcev1.ResourceClaimList
		if err := lab.Client.List(t.Context(), &claims, client.InNamespace("default")); err != nil {
			t.Fatal(err)
		}
		_, a := lab.WaitBound(t, first)
		for i := range claims.Items {
			if c := &claims.Items[i]; c.Status.Allocation != nil && c.Status.Allocation.Devices.Results[0].Pool == "extended" {
				if s.heldBy(c) == a.Devices[0].UUID {
					t.Errorf("%s is a claim's too", a.Devices[0].UUID)
				}
				return
			}
		}
		t.Error("the driver's GPU is held by no claim")
	})

	t.Run("memory and a claim for a GPU in one pod are refused, a claim for a NIC is not", func(t *testing.T) {
		s := newSite(t, lab, "both", 2, "80Gi")
		s.publish("gpu.nvidia.com")
		s.label(berthv1alpha1.LabelDRA, berthv1alpha1.DRAShared)
		gpu := s.claim("gpu", 1)
		pod := s.claiming("p", gpu.Name)
		pod.Annotations[berthv1alpha1.AnnotationGPUMemory] = "10Gi"
		s.waitsFor(harness.Create(t, lab, pod), string(gpustate.ReasonClaimsGPU))
		s.publish("nic.test")
		nic := s.claim("nic", 1)
		other := s.claiming("q", nic.Name)
		other.Annotations[berthv1alpha1.AnnotationGPUMemory] = "10Gi"
		s.place(other)
	})

	t.Run("two MIG instances are not one allocation, nor with default counts", func(t *testing.T) {
		s := newSite(t, lab, "mig", 1, "80Gi")
		s.edit = func(g *berthtesting.GPUNode) {
			g.Instance("MIG-1", s.gpu(0), "40Gi").Instance("MIG-2", s.gpu(0), "40Gi")
		}
		s.Report(t, s.report())
		two := harness.Create(t, lab, s.pod("two", "60Gi", counts("2")))
		s.waitsFor(two, string(alloc.ReasonInstances))
		lab.WaitUnschedulable(t, harness.Create(t, lab, s.pod("ollama", "60Gi", engine("ollama"))))
		if _, a := s.place(s.pod("one", "30Gi", engine("ollama"))); len(a.Devices) != 1 {
			t.Errorf("got %v", a)
		}
	})

	t.Run("a booking on an instance counts when MIG is turned off, and the pod is told", func(t *testing.T) {
		s := newSite(t, lab, "unmig", 1, "80Gi")
		s.edit = func(g *berthtesting.GPUNode) { g.Instance("MIG-3", s.gpu(0), "40Gi") }
		s.Report(t, s.report())
		pod, a := s.place(s.pod("on-instance", "30Gi"))
		if a.Devices[0].UUID != "MIG-3" {
			t.Fatalf("on %s", a.Devices[0].UUID)
		}
		s.edit = nil
		s.Report(t, s.report())
		lab.WaitUnschedulable(t, harness.Create(t, lab, s.pod("too-much", "60Gi")))
		s.place(s.pod("fits", "40Gi"))
		harness.Eventually(t, "the pod is told", func(context.Context) (bool, string) {
			told := s.events(pod, "GPULost")
			return len(told) == 1 && strings.Contains(told[0], "MIG-3") && strings.Contains(told[0], "stays booked"), strings.Join(told, "\n")
		})
	})

	t.Run("the pod of a GPU that was replaced is told", func(t *testing.T) {
		s := newSite(t, lab, "replaced", 1, "80Gi")
		pod, _ := s.place(s.pod("on-replaced", "30Gi"))
		s.edit = func(g *berthtesting.GPUNode) { g.Status.Devices[0].UUID = "GPU-new" }
		s.Report(t, s.report())
		harness.Eventually(t, "the pod is told", func(context.Context) (bool, string) {
			told := s.events(pod, "GPULost")
			return len(told) == 1 && strings.Contains(told[0], s.gpu(0)), strings.Join(told, "\n")
		})
	})
}

// waitsFor waits until a pod is unschedulable for a reason.
func (s *site) waitsFor(pod *corev1.Pod, reason string) {
	s.t.Helper()
	if msg := s.WaitUnschedulable(s.t, pod); !strings.Contains(msg, reason) {
		s.t.Errorf("pod %s: message %q does not say %q", pod.Name, msg, reason)
	}
}

// label labels the site's node.
func (s *site) label(key, value string) {
	s.t.Helper()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+key+`":"`+value+`"}}}`))
	if err := s.Client.Patch(s.t.Context(), s.node.DeepCopy(), patch); err != nil {
		s.t.Fatal(err)
	}
}

// ofDevicePlugin makes a pod on the site that has a GPU of the device plugin, or whose init container had one.
func (s *site) ofDevicePlugin(name string, init bool) *corev1.Pod {
	s.t.Helper()
	p := berthtesting.MakePod(name).Scheduler("none").NoReference()
	if init {
		p.InitWholeGPUs(1, true)
	} else {
		p.WholeGPUs(1)
	}
	pod := p.Node(s.node.Name).Obj()
	pod.UID, pod.ResourceVersion, pod.Status = "", "", corev1.PodStatus{}
	return harness.Create(s.t, s.Lab, pod)
}

// publish makes the slice of the node's GPUs as a driver would, and a class of its devices.
func (s *site) publish(driver string) {
	s.t.Helper()
	class := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: s.node.Name + "-" + driver}}
	class.Spec.Selectors = []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: `device.driver == "` + driver + `"`}}}
	slice := &resourcev1.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: s.node.Name + "-" + driver},
		Spec: resourcev1.ResourceSliceSpec{
			Driver: driver, NodeName: &s.node.Name, Pool: resourcev1.ResourcePool{Name: s.node.Name, ResourceSliceCount: 1},
		},
	}
	for i := range s.count {
		uuid := s.gpu(i)
		slice.Spec.Devices = append(slice.Spec.Devices, resourcev1.Device{
			Name:       "gpu-" + string(rune('0'+i)),
			Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"uuid": {StringValue: &uuid}},
		})
	}
	for _, object := range []client.Object{class, slice} {
		harness.Create(s.t, s.Lab, object)
		s.t.Cleanup(func() { _ = s.Client.Delete(context.WithoutCancel(s.t.Context()), object) })
	}
}

// claim makes a claim for GPUs, or for NICs if it is called that, of the site.
func (s *site) claim(name string, count int64) *resourcev1.ResourceClaim {
	s.t.Helper()
	driver := "gpu.nvidia.com"
	if name == "nic" {
		driver = "nic.test"
	}
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: s.node.Name + "-" + name}}
	c.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{
		DeviceClassName: s.node.Name + "-" + driver, AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: count,
	}}}
	harness.Create(s.t, s.Lab, c)
	s.t.Cleanup(func() {
		_ = s.Client.Patch(context.WithoutCancel(s.t.Context()), c, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
		_ = s.Client.Delete(context.WithoutCancel(s.t.Context()), c)
	})
	return c
}

// claiming returns a pod of the site that uses a claim and asks for no memory.
func (s *site) claiming(name, claim string) *corev1.Pod {
	pod := s.pod(name, "1Gi")
	pod.Annotations = map[string]string{}
	pod.Spec.Containers[0].Env = nil
	pod.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "c", ResourceClaimName: &claim}}
	pod.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "c"}}
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
	return pod
}

// heldBy returns the GPU that a claim holds.
func (s *site) heldBy(c *resourcev1.ResourceClaim) string {
	s.t.Helper()
	if err := s.Client.Get(s.t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
		s.t.Fatal(err)
	}
	if c.Status.Allocation == nil {
		s.t.Fatal("the claim has nothing")
	}
	device := c.Status.Allocation.Devices.Results[0].Device
	return s.gpu(int(device[len(device)-1] - '0'))
}
