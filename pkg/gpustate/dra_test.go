// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"slices"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

const testDriver = "gpu.nvidia.com"

// draSlice is a node's slice as NVIDIA's driver makes it: each device is a name and its attributes as pairs.
func draSlice(node string, devices ...[]string) *resourcev1.ResourceSlice {
	s := &resourcev1.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "slice-" + node},
		Spec:       resourcev1.ResourceSliceSpec{Driver: testDriver, Pool: resourcev1.ResourcePool{Name: node}, NodeName: &node},
	}
	for _, d := range devices {
		device := resourcev1.Device{Name: d[0], Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{}}
		for i := 1; i+1 < len(d); i += 2 {
			device.Attributes[resourcev1.QualifiedName(d[i])] = resourcev1.DeviceAttribute{StringValue: &d[i+1]}
		}
		s.Spec.Devices = append(s.Spec.Devices, device)
	}
	return s
}

// draClaim is a claim to which devices of a pool are allocated.
func draClaim(uid types.UID, driver, pool string, devices ...string) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: bt.Namespace, Name: string(uid), UID: uid}}
	if len(devices) > 0 {
		c.Status.Allocation = &resourcev1.AllocationResult{}
	}
	for _, d := range devices {
		c.Status.Allocation.Devices.Results = append(c.Status.Allocation.Devices.Results,
			resourcev1.DeviceRequestAllocationResult{Request: "gpu", Driver: driver, Pool: pool, Device: d})
	}
	return c
}

func TestRegressionAGPUThatAClaimHoldsIsNotBooked(t *testing.T) {
	two := draSlice(testNode, []string{"gpu-0", "uuid", "GPU-0"}, []string{"gpu-1", "gpu.nvidia.com/uuid", "GPU-1"})
	looking := draClaim("c", testDriver, testNode, "gpu-0")
	yes := true
	looking.Status.Allocation.Devices.Results[0].AdminAccess = &yes
	for _, tc := range []struct {
		name   string
		slice  *resourcev1.ResourceSlice
		claims []*resourcev1.ResourceClaim
		cut    bool
		want   alloc.Reason
		free   []uint64
	}{
		{name: "nothing is claimed", slice: two, free: []uint64{80, 80}},
		{name: "a claim holds a GPU", slice: two, claims: []*resourcev1.ResourceClaim{draClaim("c", testDriver, testNode, "gpu-1")}, free: []uint64{80, 0}},
		{name: "a claim that waits", slice: two, claims: []*resourcev1.ResourceClaim{draClaim("c", testDriver, testNode)}, free: []uint64{80, 80}},
		{name: "a claim of another driver", slice: two, claims: []*resourcev1.ResourceClaim{draClaim("c", "nic.test", testNode, "gpu-1")}, free: []uint64{80, 80}},
		{name: "a claim that only looks", slice: two, claims: []*resourcev1.ResourceClaim{looking}, free: []uint64{80, 80}},
		{name: "the GPU of another node", slice: two, claims: []*resourcev1.ResourceClaim{draClaim("c", testDriver, "other", "gpu-1")}, free: []uint64{80, 80}},
		{
			name: "a device that no slice has", slice: two, claims: []*resourcev1.ResourceClaim{draClaim("c", testDriver, testNode, "gpu-7")},
			want: ReasonUnknownResourceClaim, free: []uint64{80, 80},
		},
		{name: "the driver is gone, its claims are not", claims: []*resourcev1.ResourceClaim{draClaim("c", testDriver, testNode, "gpu-1")}, want: ReasonUnknownResourceClaim, free: []uint64{80, 80}},
		{
			name: "a device that does not say which it is", slice: draSlice(testNode, []string{"gpu-0"}),
			claims: []*resourcev1.ResourceClaim{draClaim("c", testDriver, testNode, "gpu-0")}, want: ReasonUnknownResourceClaim, free: []uint64{80, 80},
		},
		{
			name:   "a partition that is not made yet holds the whole GPU",
			slice:  draSlice(testNode, []string{"gpu-1", "uuid", "GPU-1"}, []string{"gpu-1-mig-1g10gb-19-0", "parentUUID", "GPU-1"}),
			claims: []*resourcev1.ResourceClaim{draClaim("c", testDriver, testNode, "gpu-1-mig-1g10gb-19-0")}, free: []uint64{80, 0},
		},
		{
			name: "an instance holds itself alone", cut: true,
			slice:  draSlice(testNode, []string{"gpu-0-mig-0", "uuid", "MIG-0", "parentUUID", "GPU-0", "resource.kubernetes.io/pciBusID", "0000:07:00.0"}),
			claims: []*resourcev1.ResourceClaim{draClaim("c", testDriver, testNode, "gpu-0-mig-0")}, free: []uint64{0, 80, 0, 40},
		},
		{
			name: "a GPU holds its instances", cut: true, slice: draSlice(testNode, []string{"gpu-0", "uuid", "GPU-0"}),
			claims: []*resourcev1.ResourceClaim{draClaim("c", testDriver, testNode, "gpu-0")}, free: []uint64{0, 80, 0, 0},
		},
		{
			name:   "a GPU that was handed to a virtual machine",
			slice:  draSlice(testNode, []string{"gpu-vfio-0", "uuid", "other", "resource.kubernetes.io/pciBusID", "0000:07:00.0"}),
			claims: []*resourcev1.ResourceClaim{draClaim("c", testDriver, testNode, "gpu-vfio-0")}, free: []uint64{0, 80},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.DRA = NewDRA([]string{testDriver})
			f.node.Labels[berthv1alpha1.LabelDRA] = berthv1alpha1.DRAShared
			report := bt.MakeGPUNodeOf(testNode, 2, "80Gi")
			report.Status.Devices[0].PCIBusID = "00000000:07:00.0"
			if tc.cut {
				report.Instance("MIG-0", "GPU-0", "40Gi").Instance("MIG-1", "GPU-0", "40Gi")
			}
			f.report(report)
			// In whichever order they come.
			f.view(Query{Generation: 1})
			for _, c := range tc.claims {
				f.DRA.ClaimSeen(c)
			}
			if tc.slice != nil {
				f.DRA.SliceSeen(tc.slice)
			}
			v := f.view(Query{Generation: 1})
			if v.Reason != tc.want {
				t.Errorf("reason %q, want %q", v.Reason, tc.want)
			}
			f.wantFree("with the claims", v, tc.free...)
			recalled, ok := f.Viewer().Recall(f.node, &Query{Generation: 1})
			if !ok || recalled.Reason != tc.want {
				t.Errorf("recalled %v with %q", ok, recalled.Reason)
			}
			for _, c := range tc.claims {
				f.DRA.ClaimGone(c.UID)
			}
			want := []uint64{80, 80}
			if tc.cut {
				want = []uint64{0, 80, 40, 40}
			}
			f.wantFree("without the claims", f.view(Query{Generation: 1}), want...)
		})
	}
}

func TestRegressionANodeOfADRADriverGetsNoPods(t *testing.T) {
	f := newFixture(t)
	f.DRA = NewDRA([]string{testDriver})
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	slice := draSlice(testNode, []string{"gpu-0", "uuid", "GPU-0"})
	if got := f.DRA.SliceSeen(slice); len(got) != 1 || got[0] != testNode || !f.DRA.Publishes() {
		t.Errorf("the slice changes nodes %v, published %v", got, f.DRA.Publishes())
	}
	if got := f.view(Query{}).Reason; got != ReasonDRA {
		t.Errorf("got %q, want %q", got, ReasonDRA)
	}
	other := slice.DeepCopy()
	other.Name, other.Spec.Driver = "other", "nic.test"
	f.DRA.SliceSeen(other)
	f.DRA.SliceGone(slice.Name)
	if got := f.view(Query{}).Reason; got != "" || f.DRA.Publishes() {
		t.Errorf("after the driver is gone: %q, published %v", got, f.DRA.Publishes())
	}
}

func TestAClaimWhoseAllocationIsNotWrittenYet(t *testing.T) {
	f := newFixture(t)
	f.DRA = NewDRA([]string{testDriver})
	f.node.Labels[berthv1alpha1.LabelDRA] = berthv1alpha1.DRAShared
	f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi"))
	f.DRA.SliceSeen(draSlice(testNode, []string{"gpu-0", "uuid", "GPU-0"}, []string{"gpu-1", "uuid", "GPU-1"}))
	first := draClaim("a", testDriver, testNode, "gpu-0")
	f.DRA.ClaimSeen(first)
	v := f.Viewer()
	all := []DRADevice{{testDriver, testNode, "gpu-0"}, {"nic.test", testNode, "gpu-1"}}
	if v.DRAAhead = f.DRA.With(slices.Values(all)); v.DRAAhead != nil {
		t.Errorf("nothing is new, got %v", v.DRAAhead)
	}
	v.DRAAhead = f.DRA.With(slices.Values(append(all, DRADevice{testDriver, testNode, "gpu-1"})))
	f.wantFree("both are held", v.View(f.node, nil, &Query{}), 0, 0)
	f.wantFree("for that viewer alone", f.view(Query{}), 0, 80)
	if v.DRAAhead = f.DRA.With(slices.Values(all)); v.DRAAhead != nil {
		t.Errorf("it was kept: %v", v.DRAAhead)
	}
}

func TestADRAThatIsOff(t *testing.T) {
	var d *DRA
	if d.Publishes() || d.Drives(testDriver) || d.OnNode(testNode) != nil || d.HoldsGPU(draClaim("c", testDriver, testNode, "gpu-0")) {
		t.Error("it knows of something")
	}
}

func TestAViewIsNotRememberedBeyondAClaim(t *testing.T) {
	f := newFixture(t)
	f.DRA = NewDRA([]string{testDriver})
	f.node.Labels[berthv1alpha1.LabelDRA] = berthv1alpha1.DRAShared
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	f.DRA.SliceSeen(draSlice(testNode, []string{"gpu-0", "uuid", "GPU-0"}))
	q := Query{Generation: 1}
	f.view(q)
	if _, ok := f.Viewer().Recall(f.node, &q); !ok {
		t.Error("nothing is remembered")
	}
	f.DRA.ClaimSeen(draClaim("c", testDriver, testNode, "gpu-0"))
	if v, ok := f.Viewer().Recall(f.node, &q); ok {
		t.Errorf("remembered with %v free", v.Devices[0].Free())
	}
}
