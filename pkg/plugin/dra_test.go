// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/structured"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/resourceclaims"
)

const gpuDriver = "gpu.nvidia.com"

// fakeDRA is the framework's DRA manager over a few objects.
type fakeDRA struct {
	fwk.SharedDRAManager
	claims  claimTracker
	slices  sliceLister
	classes classLister
}

type (
	claimTracker struct {
		fwk.ResourceClaimTracker
		claims []*resourcev1.ResourceClaim
		asked  *bool
	}
	sliceLister []*resourcev1.ResourceSlice
	// classLister has the classes by name, and as resolver those of extended resources.
	classLister map[string]*resourcev1.DeviceClass
)

func (d *fakeDRA) ResourceClaims() fwk.ResourceClaimTracker     { return d.claims }
func (d *fakeDRA) ResourceSlices() fwk.ResourceSliceLister      { return d.slices }
func (d *fakeDRA) DeviceClasses() fwk.DeviceClassLister         { return d.classes }
func (d *fakeDRA) DeviceClassResolver() fwk.DeviceClassResolver { return d.classes }

// GatherAllocatedState is what the claims hold. Every other time it fails, as the framework's does while that changes.
func (c claimTracker) GatherAllocatedState() (*structured.AllocatedState, error) {
	if *c.asked = !*c.asked; *c.asked {
		return nil, errors.New("conflicting concurrent modification")
	}
	s := &structured.AllocatedState{AllocatedDevices: sets.New[structured.DeviceID](), AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID]()}
	for _, claim := range c.claims {
		if claim.Status.Allocation == nil {
			continue
		}
		for _, r := range claim.Status.Allocation.Devices.Results {
			id := structured.MakeDeviceID(r.Driver, r.Pool, r.Device)
			if r.ShareID == nil {
				s.AllocatedDevices.Insert(id)
			} else {
				s.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, r.ShareID))
			}
		}
	}
	return s, nil
}

func (c claimTracker) Get(_, name string) (*resourcev1.ResourceClaim, error) {
	for _, claim := range c.claims {
		if claim.Name == name {
			return claim, nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{}, name)
}
func (s sliceLister) ListWithDeviceTaintRules() ([]*resourcev1.ResourceSlice, error) { return s, nil }
func (c classLister) List() ([]*resourcev1.DeviceClass, error)                       { return nil, nil }
func (c classLister) Get(name string) (*resourcev1.DeviceClass, error) {
	if class := c[name]; class != nil {
		return class, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{}, name)
}
func (c classLister) GetDeviceClass(name corev1.ResourceName) *resourcev1.DeviceClass {
	for _, class := range c {
		if e := class.Spec.ExtendedResourceName; e != nil && *e == string(name) {
			return class
		}
	}
	return nil
}

func deviceClass(name, expression, extendedResource string) *resourcev1.DeviceClass {
	c := &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}}
	c.Spec.Selectors = []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: expression}}}
	if extendedResource != "" {
		c.Spec.ExtendedResourceName = &extendedResource
	}
	return c
}

// withDRA gives the fixture one node of which a driver publishes two GPUs, shared with Berth, and classes of GPUs and
// of NICs.
func (f *fixture) withDRA() *fakeDRA {
	device := func(name, uuid string) resourcev1.Device {
		gpu := "gpu"
		return resourcev1.Device{Name: name, Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{
			"uuid": {StringValue: &uuid}, "type": {StringValue: &gpu},
		}}
	}
	node := "a"
	slice := &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourcev1.ResourceSliceSpec{
		Driver: gpuDriver, Pool: resourcev1.ResourcePool{Name: node}, NodeName: &node,
		Devices: []resourcev1.Device{device("gpu-0", "GPU-0"), device("gpu-1", "GPU-1")},
	}}
	dra := &fakeDRA{claims: claimTracker{asked: new(bool)}, slices: sliceLister{slice}, classes: classLister{
		"gpu": deviceClass("gpu", `device.driver == "gpu.nvidia.com" && device.attributes["gpu.nvidia.com"].type == "gpu"`, "example.test/gpu"),
		"nic": deviceClass("nic", `device.driver == "nic.test"`, "example.test/nic"),
		"mig": deviceClass("mig", `device.driver == "gpu.nvidia.com" && device.attributes["gpu.nvidia.com"].type == "mig"`, ""),
	}}
	f.pl.tracker.DRA = gpustate.NewDRA([]string{gpuDriver})
	f.pl.resourceClaims = resourceclaims.NewReader(dra, f.pl.tracker.DRA)
	f.pl.tracker.DRA.SliceSeen(slice)
	n := bt.MakeNode(node)
	n.Labels[berthv1alpha1.LabelDRA] = berthv1alpha1.DRAShared
	f.node(n, bt.MakeGPUNodeOf(node, 2, "80Gi"))
	f.snapshot()
	return dra
}

// claimed makes a pod use a claim.
func claimed(p *bt.Pod, claim string) *bt.Pod {
	p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, corev1.PodResourceClaim{Name: claim, ResourceClaimName: &claim})
	return p
}

func claimOf(name, class, selector string) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name)}}
	exactly := &resourcev1.ExactDeviceRequest{DeviceClassName: class}
	if selector != "" {
		exactly.Selectors = []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: selector}}}
	}
	c.Spec.Devices.Requests = []resourcev1.DeviceRequest{{Name: "r", Exactly: exactly}}
	return c
}

func allocated(c *resourcev1.ResourceClaim, driver, device string) *resourcev1.ResourceClaim {
	c.Status.Allocation = &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{
		Results: []resourcev1.DeviceRequestAllocationResult{{Request: "r", Driver: driver, Pool: "a", Device: device}},
	}}
	return c
}

func TestRegressionMemoryBesideAClaimForAGPU(t *testing.T) {
	for _, tc := range []struct {
		name    string
		claim   *resourcev1.ResourceClaim
		limit   corev1.ResourceName
		refused bool
	}{
		{name: "a claim for a GPU", claim: claimOf("c", "gpu", ""), refused: true},
		{name: "a claim for that GPU", claim: claimOf("c", "gpu", `device.attributes["gpu.nvidia.com"].uuid == "GPU-1"`), refused: true},
		{name: "a claim for a GPU that nobody has", claim: claimOf("c", "gpu", `device.attributes["gpu.nvidia.com"].uuid == "GPU-9"`)},
		{name: "a claim that has a GPU", claim: allocated(claimOf("c", "unknown", ""), gpuDriver, "gpu-0"), refused: true},
		{name: "a claim for a NIC", claim: allocated(claimOf("c", "nic", ""), "nic.test", "nic-0")},
		{name: "a claim for instances, of which there are none", claim: claimOf("c", "mig", "")},
		{name: "a claim that does not exist yet"},
		{name: "an extended resource of the driver", limit: "example.test/gpu", refused: true},
		{name: "a resource that the admin says is a GPU", limit: "example.test/card", refused: true},
		{name: "an extended resource of another", limit: "example.test/nic"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.pl.tracker.Policy.GPUResources = []string{"example.test/card"}
			dra := f.withDRA()
			pod := claimed(bt.MakePod("p").Memory("30Gi"), "c")
			if tc.claim != nil {
				dra.claims.claims = append(dra.claims.claims, tc.claim)
			}
			if tc.limit != "" {
				pod.Limit(tc.limit, "1")
			}
			_, status := f.pl.PreFilter(f.ctx, newState(), pod.Obj(), f.nodeInfos())
			if tc.refused {
				wantStatus(t, "PreFilter", status, fwk.UnschedulableAndUnresolvable, gpustate.ReasonClaimsGPU)
			} else if !status.IsSuccess() {
				t.Errorf("refused: %v", status)
			}
		})
	}
}

// TestMemoryDoesNotWakeWhoWouldGetAGPUByAClaim: no room helps such a pod; a change of claims, classes or devices may.
func TestMemoryDoesNotWakeWhoWouldGetAGPUByAClaim(t *testing.T) {
	f := newFixture(t)
	dra := f.withDRA()
	f.pl.feed.ReportSeen(bt.MakeGPUNodeOf("a", 1, "80Gi").Process("", "70Gi").Obj(), true)
	dra.claims.claims = append(dra.claims.claims, claimOf("c", "gpu", ""))
	pod := claimed(bt.MakePod("p").Memory("30Gi"), "c").Obj()
	f.known(pod)
	_, status := f.pl.PreFilter(f.ctx, newState(), pod, f.nodeInfos())
	wantStatus(t, "PreFilter", status, fwk.UnschedulableAndUnresolvable, gpustate.ReasonClaimsGPU)
	f.pl.feed.ReportSeen(bt.MakeGPUNodeOf("a", 1, "80Gi").ResourceVersion("2").Obj(), true)
	f.wantActivated("room comes up")
	events, err := f.pl.EventsToRegister(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	gone := bt.MakePod("x").Node("a").Obj()
	if hint, err := f.afterPodDeleted(pod, gone); hint != fwk.QueueSkip || err != nil {
		t.Errorf("a pod goes: %v, %v", hint, err)
	}
	claim := dra.claims.claims[0]
	for _, r := range []fwk.EventResource{fwk.ResourceClaim, fwk.ResourceSlice, fwk.DeviceClass} {
		i := slices.IndexFunc(events, func(e fwk.ClusterEventWithHint) bool { return e.Event.Resource == r })
		if i < 0 {
			t.Errorf("nobody is asked when a %s changes", r)
			continue
		}
		other := bt.MakePod("other").Memory("30Gi").Obj()
		for pod, want := range map[*corev1.Pod]fwk.QueueingHint{pod: fwk.Queue, other: fwk.QueueSkip} {
			if got, err := events[i].QueueingHintFn(klog.FromContext(f.ctx), pod, claim, claim); got != want || err != nil {
				t.Errorf("a %s changes, for pod %s: %v, %v, want %v", r, pod.Name, got, err, want)
			}
		}
	}
	f.pl.feed.PodGone(pod)
	if got, err := events[len(events)-1].QueueingHintFn(klog.FromContext(f.ctx), pod, claim, claim); got != fwk.QueueSkip || err != nil {
		t.Errorf("it is remembered after it is gone: %v, %v", got, err)
	}
}

func TestAClaimThatTurnsOutToHaveAGPUIsNotBoundWithMemory(t *testing.T) {
	f := newFixture(t)
	dra := f.withDRA()
	pod := claimed(bt.MakePod("p").Memory("30Gi"), "c").Obj()
	dra.claims.claims = []*resourcev1.ResourceClaim{claimOf("c", "unknown", "")}
	state := f.reserve(pod, "a")
	allocated(dra.claims.claims[0], gpuDriver, "gpu-0")
	wantStatus(t, "Bind", f.pl.Bind(f.ctx, state, pod, "a"), fwk.Unschedulable, gpustate.ReasonClaimsGPU)
}

func TestRegressionAGPUThatThisSchedulerIsAboutToGiveToAClaim(t *testing.T) {
	f := newFixture(t)
	dra := f.withDRA()
	dra.claims.claims = []*resourcev1.ResourceClaim{allocated(claimOf("c", "gpu", ""), gpuDriver, "gpu-0")}
	pod := bt.MakePod("p").Memory("70Gi").Obj()
	state := f.reserve(pod, "a")
	data, err := state.Read(reservedKey)
	if err != nil {
		t.Fatal(err)
	}
	if got := data.(*reserved).allocation.UUIDs(); got != "GPU-1" {
		t.Errorf("booked on %s, want GPU-1", got)
	}
	share := types.UID("share") // of a device that may be given to several claims
	shared := allocated(claimOf("d", "gpu", ""), gpuDriver, "gpu-1")
	shared.Status.Allocation.Devices.Results[0].ShareID = &share
	dra.claims.claims = append(dra.claims.claims, shared)
	other := bt.MakePod("q").Memory("70Gi").Obj()
	wantStatus(t, "Filter", f.pl.Filter(f.ctx, f.begin(other), other, f.nodeInfo("a")), fwk.UnschedulableAndUnresolvable, gpustate.ReasonResourceClaimedDevices)
}

func TestPodsAreRetriedWhenAClaimGoes(t *testing.T) {
	f := newFixture(t)
	f.withDRA()
	claims := []*resourcev1.ResourceClaim{allocated(claimOf("c", "gpu", ""), gpuDriver, "gpu-0"), allocated(claimOf("d", "gpu", ""), gpuDriver, "gpu-1")}
	for _, c := range claims {
		f.pl.tracker.DRA.ClaimSeen(c)
	}
	pod := bt.MakePod("p").Memory("70Gi").Obj()
	f.park(pod)
	f.pl.wake.NodesChanged(f.pl.tracker.DRA.ClaimSeen(claims[0])) // nothing new
	f.wantActivated("nothing has changed")
	f.pl.wake.NodesChanged(f.pl.tracker.DRA.ClaimGone(claims[1].UID))
	f.wantActivated("a claim is gone", "p")
}

func TestPodsAreRetriedWhenAnAllocationIsGivenUp(t *testing.T) {
	f := newFixture(t)
	dra := f.withDRA()
	dra.claims.claims = []*resourcev1.ResourceClaim{
		allocated(claimOf("c", "gpu", ""), gpuDriver, "gpu-0"), allocated(claimOf("d", "gpu", ""), gpuDriver, "gpu-1"),
	}
	pod := bt.MakePod("p").Memory("70Gi").Obj()
	wantStatus(t, "Filter", f.pl.Filter(f.ctx, f.begin(pod), pod, f.nodeInfo("a")), fwk.UnschedulableAndUnresolvable, gpustate.ReasonResourceClaimedDevices)
	f.queue.take()
	dra.claims.claims = nil // which no event tells
	f.clock.Step(aheadRetry + time.Millisecond)
	f.eventually("the pod is tried again", func() bool { return len(f.queue.take()) > 0 })
}
