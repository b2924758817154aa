// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/cli"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestGPURepairs does what docs/gpu-repairs.md says, by the commands that stand there.
func TestGPURepairs(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	o := &operator{t: t, lab: lab}
	t.Run("a GPU is cordoned and uncordoned", o.cordonGPU)
	t.Run("a GPU is drained, within a budget", o.drainGPU)
}

// kubectlBerth runs a command line, and returns what it prints.
func (o *operator) kubectlBerth(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	command := cli.NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out})
	command.SetArgs(append(args, "--kubeconfig", o.lab.Kubeconfig))
	err := command.ExecuteContext(ctx)
	return out.String(), err
}

// mustBerth is kubectlBerth of what must succeed and print something.
func (o *operator) mustBerth(t *testing.T, want string, args ...string) {
	t.Helper()
	out, err := o.kubectlBerth(t.Context(), args...)
	if err != nil || !strings.Contains(out, want) {
		t.Fatalf("kubectl berth %s: %v, want %q\n%s", strings.Join(args, " "), err, want, out)
	}
}

func (o *operator) cordonGPU(t *testing.T) {
	lab := o.lab
	s := newSite(t, lab, "repair", 2, "80Gi")
	here, booked := s.place(s.pod("here", "60Gi", grace(0)))
	gpu := slices.Index([]string{s.gpu(0), s.gpu(1)}, booked.Devices[0].UUID)
	other := s.gpu(1 - gpu)
	index := []string{"0", "1"}[gpu]

	o.mustBerth(t, "cordoned (server dry run)", "cordon", s.node.Name, "--gpu", index, "--dry-run=server")
	o.mustBerth(t, "node/repair GPU "+index+" ("+s.gpu(gpu)+") cordoned\n", "cordon", s.node.Name, "--gpu", index)
	o.mustBerth(t, "already cordoned", "cordon", s.node.Name, "--gpu", s.gpu(gpu))
	waitEvent(t, lab, here, "GPUCordoned", s.gpu(gpu))
	o.mustBerth(t, "cordoned: by the node's annotation", "top", s.node.Name, "--no-color")

	lab.Delete(t, here, 0)
	lab.WaitGone(t, here)
	_, elsewhere := s.place(s.pod("elsewhere", "60Gi", grace(0)))
	if got := elsewhere.Devices[0].UUID; got != other {
		t.Errorf("the pod is on %s, which is cordoned", got)
	}
	late := harness.Create(t, lab, s.pod("late", "60Gi", grace(0)))
	o.waitReason(late, gpustate.ReasonInsufficientMemory)
	o.mustBerth(t, "the GPU is cordoned", "explain", "pod/"+late.Name, "-n", late.Namespace, "-o", "wide")
	o.mustBerth(t, "uncordoned", "uncordon", s.node.Name, "--gpu", index)
	if _, a := lab.WaitBound(t, late); a.Devices[0].UUID != s.gpu(gpu) {
		t.Errorf("the pod is on %s", a.Devices[0].UUID)
	}

	lab.Annotate(t, s.node, berthv1alpha1.AnnotationCordonedGPUs, "GPU-of-yore")
	waitNodeEvent(t, lab, s.node, "CordonedGPUUnknown", "GPU-of-yore")
	o.mustBerth(t, "uncordoned", "uncordon", s.node.Name, "--gpu", "GPU-of-yore")
	if out, err := o.kubectlBerth(t.Context(), "cordon", s.node.Name, "--gpu", "7"); err == nil || !strings.Contains(err.Error(), s.gpu(0)) {
		t.Errorf("an index that the node lacks: %v\n%s", err, out)
	}
}

func (o *operator) drainGPU(t *testing.T) {
	lab := o.lab
	s := newSite(t, lab, "drained", 2, "80Gi")
	first, gpu := o.serve(t, s)
	minAvailable := intstr.FromInt32(1)
	budget := harness.Create(t, lab, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: first.Namespace, Name: s.node.Name},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &minAvailable, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": s.node.Name}}},
	})
	beside := lab.WaitReady(t, harness.Create(t, lab, s.pod("beside", "60Gi", grace(0))))

	o.mustBerth(t, "evicting pod default/"+first.Name+" (server dry run)", "drain", s.node.Name, "--gpu", gpu, "--dry-run=server")
	o.mustBerth(t, "would not go now", "drain", s.node.Name, "--gpu", gpu, "--dry-run=server") // and says so at once
	if now := lab.Pod(t, first); now.DeletionTimestamp != nil {
		t.Fatal("a dry run evicted")
	}
	out, err := o.kubectlBerth(t.Context(), "drain", s.node.Name, "--gpu", gpu, "--timeout", "1s")
	if err == nil || !strings.Contains(out, "disruption budget") || !strings.Contains(err.Error(), "stay cordoned") {
		t.Fatalf("within the budget: %v\n%s", err, out)
	}
	lab.Delete(t, budget, -1)
	lab.Delete(t, beside, 0) // makes room for the replacement
	o.mustBerth(t, "drained\n", "drain", s.node.Name, "--gpu", gpu, "--timeout", "2m")
	second := lab.WaitReady(t, o.replacement(t, map[string]string{"app": s.node.Name}, first))
	if _, a := lab.WaitBound(t, second); a.Devices[0].UUID == gpu {
		t.Error("the replacement is on the GPU that was drained")
	}
}

// replacement waits for a bound pod with those labels that is not the one given.
func (o *operator) replacement(t *testing.T, labels map[string]string, of *corev1.Pod) (found *corev1.Pod) {
	t.Helper()
	harness.Eventually(t, "the replacement is bound", func(ctx context.Context) (bool, string) {
		var pods corev1.PodList
		if err := o.lab.Client.List(ctx, &pods, client.MatchingLabels(labels)); err != nil {
			return false, err.Error()
		}
		for i := range pods.Items {
			if p := &pods.Items[i]; p.UID != of.UID && p.Spec.NodeName != "" && p.DeletionTimestamp == nil {
				found = p
			}
		}
		return found != nil, "none yet"
	})
	return found
}
