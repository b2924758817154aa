// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/lab/install"
	"github.com/berth-dev/berth/test/integration/harness"
)

// envMixed says which programs in harness.EnvBinDir are of an earlier commit: see hack/test-mixed.sh.
const envMixed = "BERTH_MIXED"

// TestMixedVersions is about the hours of an upgrade: reports of agents and schedulers of two versions.
func TestMixedVersions(t *testing.T) {
	switch mix := os.Getenv(envMixed); mix {
	case "old-scheduler":
		t.Run("an old scheduler reads what a new agent reports", oldScheduler)
		t.Run("an old scheduler reads a report with everything that is new in it", oldSchedulerNewFields)
	case "old-agents":
		t.Run("a new scheduler reads what old agents report", oldAgents)
	case "":
		t.Skip("needs programs of two versions: make test-mixed")
	default:
		t.Fatalf("%s=%s", envMixed, mix)
	}
}

// envMixedConfig is the file of the configuration that the earlier commit ships for its scheduler: it would refuse
// arguments that it does not know.
const envMixedConfig = "BERTH_MIXED_CONFIG"

// Pods refer to bare UUIDs, as those do that the earlier policies made: the earlier scheduler knows no other reference, and
// leaves pods that the newer policies made to the newer scheduler.
func oldScheduler(t *testing.T) {
	lab := harness.Start(t, "--nodes", "1", "--gpus", "2", "--no-controller", "--scheduler-config", os.Getenv(envMixedConfig))
	placeOnSimulated(t, lab, "new-agent")
}

// placeOnSimulated places two pods that fill both GPUs of a simulated node, one after the other, so that the second
// is placed on what the agent measures of the first.
func placeOnSimulated(t *testing.T, lab *harness.Lab, name string) {
	t.Helper()
	taken := map[string]bool{}
	for _, suffix := range []string{"-1", "-2"} {
		pod := berthtesting.MakePod(name + suffix).Memory("70Gi").Obj()
		toUUIDs(pod)
		pod = harness.Create(t, lab, pod)
		pod, allocation := lab.WaitBound(t, pod)
		if allocation == nil || len(allocation.Devices) != 1 || taken[allocation.Devices[0].UUID] {
			t.Fatalf("allocation of %s: %+v, want the GPU that is not in %v", pod.Name, allocation, taken)
		}
		taken[allocation.Devices[0].UUID] = true
		lab.WaitReady(t, pod)
	}
	pod := berthtesting.MakePod(name + "-3").Memory("70Gi").Obj()
	toUUIDs(pod)
	pod = harness.Create(t, lab, pod)
	lab.WaitUnschedulable(t, pod)
	for _, suffix := range []string{"-1", "-2", "-3"} {
		lab.Delete(t, berthtesting.MakePod(name+suffix).Obj(), 0)
	}
}

func oldSchedulerNewFields(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller", "--scheduler-config", os.Getenv(envMixedConfig))
	s := newSite(t, lab, "reported", 2, "80Gi")
	// GPU 0 is time-sliced: two pods of others hold it. The old scheduler reads only the first of them.
	s.edit = func(g *berthtesting.GPUNode) {
		for i := range g.Status.Devices {
			d := &g.Status.Devices[i]
			d.NUMANode, d.PCIeSwitch = new(int32(i)), "0000:15:00.0"
			if d.UUID == s.gpu(0) {
				d.AssignedTo, d.AssignedPods = "other-1", []types.UID{"other-1", "other-2"}
			}
		}
		g.Status.HandOff = &berthv1alpha1.HandOff{Runtimes: []berthv1alpha1.RuntimeHandOff{
			{Handler: "nvidia", Accepts: []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI}, Mode: "cdi"},
		}}
	}
	s.Report(t, s.report())
	stored := &berthv1alpha1.GPUNode{}
	if err := lab.Client.Get(t.Context(), types.NamespacedName{Name: s.node.Name}, stored); err != nil {
		t.Fatal(err)
	}
	if d := stored.Status.Devices[0]; d.NUMANode == nil || stored.Status.HandOff == nil || len(d.AssignedPods) != 2 {
		t.Fatalf("the apiserver dropped what is new: %+v", stored.Status)
	}
	if _, a := s.place(s.pod("p", "30Gi", toUUIDs)); a == nil || len(a.Devices) != 1 || a.Devices[0].UUID != s.gpu(1) {
		t.Errorf("allocation %+v, want the GPU that nobody holds", a)
	}
	lab.WaitUnschedulable(t, harness.Create(t, lab, s.pod("two", "60Gi", counts("2"))))
}

func oldAgents(t *testing.T) {
	// The lab is the old one, with its agents, but for what an upgrade applies first.
	lab := harness.Start(t, "--nodes", "1", "--gpus", "2", "--no-controller", "--no-scheduler")
	objects, err := manifests.Objects(".")
	if err != nil {
		t.Fatal(err)
	}
	if objects, err = install.Select(objects); err != nil {
		t.Fatal(err)
	}
	if err := install.Apply(t.Context(), dynamic.NewForConfigOrDie(lab.Config), objects); err != nil {
		t.Fatal(err)
	}
	runScheduler(t, lab, newAPIProxy(t, lab, forwardAll), "{}")
	placeOnSimulated(t, lab, "old-agent")
}
