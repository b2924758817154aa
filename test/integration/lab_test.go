// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package integration tests Berth on labs: a real API server with the real scheduler, controller and agents, driven
// through the API alone. Skipped with -short.
package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/lab/gpusim"
	"github.com/berth-dev/berth/pkg/lab/kwok"
	"github.com/berth-dev/berth/test/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// TestALabNeedsNoOtherProgram: berth-lab alone, as make demo builds it, becomes ready, which takes a pod that its scheduler
// places.
func TestALabNeedsNoOtherProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a lab")
	}
	program := harness.Program("berth-lab")
	dir, err := os.MkdirTemp(filepath.Dir(program), "alone-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	alone := filepath.Join(dir, "berth-lab")
	if err := os.Link(program, alone); err != nil {
		t.Fatal(err)
	}
	var messages strings.Builder
	cmd := exec.CommandContext(t.Context(), alone, "up", "--bare", "--for=1ms")
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil || !strings.HasPrefix(string(out), "ready: KUBECONFIG=") || strings.Contains(messages.String(), "starting it again") {
		t.Errorf("it printed %q, %v, and said\n%s", out, err, messages.String())
	}
}

// TestBareLab is about what a bare lab does with Nodes and pods that others make.
func TestBareLab(t *testing.T) {
	lab := harness.Start(t, "--bare")

	var nodes corev1.NodeList
	if err := lab.Client.List(t.Context(), &nodes); err != nil {
		t.Fatal(err)
	}
	if len(nodes.Items) != 0 {
		t.Errorf("%d nodes from the start, want none", len(nodes.Items))
	}
	version, err := lab.Clientset.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv(harness.EnvKubeAPIServer) == "" && !strings.HasPrefix(version.GitVersion, "v1.37.") {
		t.Errorf("the server's version is %s, want v1.37", version.GitVersion)
	}
	t.Logf("kube-apiserver %s", version.GitVersion)
	lab.AddNode(t, berthtesting.MakeNode("n1"), nil)

	t.Run("a pod that others bind runs and is ready, and a deleted one goes when its grace period is over", func(t *testing.T) {
		pod := berthtesting.MakePod("bound").Scheduler("none").Obj()
		pod.Spec.Containers[0].Env = nil
		pod.Spec.NodeName = "n1"
		harness.Create(t, lab, pod)
		lab.WaitReady(t, pod)

		const grace = 2 * time.Second
		begin := time.Now()
		lab.Delete(t, pod, grace)
		lab.WaitGone(t, pod)
		if took := time.Since(begin); took < grace {
			t.Errorf("gone after %s, within its grace period of %s", took, grace)
		}
	})

	t.Run("a pod that loads runs before it is ready", func(t *testing.T) {
		pod := berthtesting.MakePod("loading").Obj()
		pod.Annotations[kwok.AnnotationReadyAfter] = "1s"
		harness.Create(t, lab, pod)
		ready := lab.WaitReady(t, pod)
		var readyAt metav1.Time
		for _, c := range ready.Status.Conditions {
			if c.Type == corev1.PodReady {
				readyAt = c.LastTransitionTime
			}
		}
		if started := ready.Status.ContainerStatuses[0].State.Running.StartedAt; !readyAt.After(started.Time) {
			t.Errorf("ready at %s, not after it started at %s", readyAt, started)
		}
	})

	t.Run("a killed scheduler is started again and schedules", func(t *testing.T) {
		if err := syscall.Kill(lab.Child(t, "scheduler"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		pod := harness.Create(t, lab, berthtesting.MakePod("after-the-kill").Obj())
		lab.WaitBound(t, pod)
	})

	t.Run("another lab can run at the same time and shares nothing with it", func(t *testing.T) {
		other := harness.Start(t, "--bare", "--no-controller")
		var nodes corev1.NodeList
		if err := other.Client.List(t.Context(), &nodes); err != nil {
			t.Fatal(err)
		}
		if len(nodes.Items) != 0 {
			t.Errorf("%d nodes are in the other lab too", len(nodes.Items))
		}
	})
}

// TestSimulatedNodes is about the GPUs that a lab simulates, as the agents report them.
func TestSimulatedNodes(t *testing.T) {
	lab := harness.Start(t, "--nodes", "1", "--gpus", "2", "--gpu-model", "A100-40", "--no-controller")
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-0"}}
	report := func(ctx context.Context) *berthv1alpha1.GPUNodeStatus {
		gn := &berthv1alpha1.GPUNode{}
		if err := lab.Client.Get(ctx, client.ObjectKeyFromObject(node), gn); err != nil {
			t.Fatal(err)
		}
		return &gn.Status
	}
	if devices := report(t.Context()).Devices; len(devices) != 2 || devices[1].Memory.Total.String() != "40Gi" ||
		devices[0].UUID != gpusim.UUID("gpu-0", 0) {
		t.Errorf("devices = %+v, want two of 40Gi", devices)
	}

	t.Run("foreign memory and failures of a GPU are reported", func(t *testing.T) {
		lab.Annotate(t, node, gpusim.AnnotationForeignMemory, "0=12Gi")
		lab.Annotate(t, node, gpusim.AnnotationUnhealthy, "1=Xid79")
		harness.Eventually(t, "the report says so", func(ctx context.Context) (bool, string) {
			status := report(ctx)
			return len(status.Devices[0].Processes) == 1 && status.Devices[0].Memory.Used.String() == "12Gi" &&
				status.Devices[1].Health == berthv1alpha1.DeviceUnhealthy, status.ObservedTime.String()
		})
		lab.Annotate(t, node, gpusim.AnnotationForeignMemory, "")
		lab.Annotate(t, node, gpusim.AnnotationUnhealthy, "")
		harness.Eventually(t, "the report says that it is over", func(ctx context.Context) (bool, string) {
			status := report(ctx)
			return len(status.Devices[0].Processes) == 0 && status.Devices[1].Health == berthv1alpha1.DeviceHealthy, status.ObservedTime.String()
		})
	})

	t.Run("memory follows the pod, is the pod's while it drains, and comes back", func(t *testing.T) {
		pod := harness.Create(t, lab, berthtesting.MakePod("server").Memory("20Gi").Obj())
		pod, allocation := lab.WaitBound(t, pod)
		if allocation == nil {
			t.Fatal("the pod has no allocation")
		}
		held := func(ctx context.Context) (memory int64) {
			for _, d := range report(ctx).Devices {
				for _, p := range d.Processes {
					if p.PodUID != pod.UID {
						t.Errorf("process of %q, want only those of the pod", p.PodUID)
					}
					memory += p.Memory.Value()
				}
			}
			return memory
		}
		harness.Eventually(t, "the pod holds nearly what it booked", func(ctx context.Context) (bool, string) {
			return held(ctx) == 19<<30, "" // 20Gi less a twentieth
		})
		lab.Delete(t, pod, 0)
		lab.WaitGone(t, pod)
		if held(t.Context()) == 0 {
			t.Error("the memory was back at once, want it to drain")
		}
		harness.Eventually(t, "the memory is back", func(ctx context.Context) (bool, string) {
			return held(ctx) == 0, ""
		})
	})
}
