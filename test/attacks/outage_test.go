// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// asksScheduler: what the port of the scheduler tells of the process is for those whom an admin lets.
func (r *room) asksScheduler(t *testing.T) {
	if status, _ := r.AskScheduler(t, "/readyz", ""); status != http.StatusOK {
		t.Fatalf("/readyz: %d", status)
	}
	for who, token := range map[string]string{"nobody": "", "the tenant": r.mallory.config.BearerToken, "an agent": r.agent.config.BearerToken} {
		for _, path := range []string{"/debug/pprof/heap", "/debug/pprof/profile", "/configz", "/flagz", "/debug/flags/v"} {
			if status, _ := r.AskScheduler(t, path, token); status != http.StatusForbidden && status != http.StatusUnauthorized {
				t.Errorf("%s gets %d for %s", who, status, path)
			}
		}
	}
}

func (r *room) crds() dynamic.ResourceInterface {
	return dynamic.NewForConfigOrDie(r.Config).Resource(
		schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
}

const reportsCRD = "gpunodes.berth.dev"

// writesUnreadable is the attack by which one node's token blinded the scheduler for all nodes, on a CRD that admits
// whatever is written, as an older one may: reports of others are heeded, and scheduler and controller start again.
func (r *room) writesUnreadable(t *testing.T) {
	shipped := r.admitAnything(t)
	t.Cleanup(func() { // Nothing is restored before the node is readable again: the API would refuse to store it.
		ctx := context.WithoutCancel(t.Context())
		readable, err := json.Marshal(map[string]any{"status": reportOf(attacked).Status})
		if err == nil {
			_, err = r.agent.reports().Patch(ctx, attacked, types.MergePatchType, readable, metav1.PatchOptions{}, "status")
		}
		if err == nil {
			err = r.patchSchema(ctx, shipped)
		}
		if err != nil {
			t.Error(err)
		}
	})
	for _, status := range []string{
		`{"status":{"observedTime":"2026-01-01t00:00:00z"}}`,
		`{"status":{"devices":[{"uuid":"GPU-gpu-0-a","memory":{"total":"1e-2000000000"}}]}}`,
		`{"status":{"devices":7}}`,
	} {
		harness.Eventually(t, status+" is admitted", func(ctx context.Context) (bool, string) {
			err := r.sayOfItself(ctx, status)
			return err == nil, errorText(err)
		})
		full := reportOf(honest)
		for i := range full.Status.Devices {
			full.Status.Devices[i].Memory.Used = full.Status.Devices[i].Memory.Total
		}
		r.Report(t, full)
		waits := harness.Create(t, r.Lab, r.pod("waits-for-a-report", honest))
		r.removeAfter(t, waits)
		r.WaitUnschedulable(t, waits)
		r.Report(t, reportOf(honest))
		r.WaitBound(t, waits)
		r.Delete(t, waits, 0)
		r.WaitGone(t, waits)
	}
	for _, program := range []string{"scheduler", "controller"} {
		if err := syscall.Kill(r.Child(t, program), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	r.goesOn(t, "a restart with an unreadable report")
	there := harness.Create(t, r.Lab, r.pod("not-there", attacked))
	r.removeAfter(t, there)
	r.waitsBecause(t, there, string(gpustate.ReasonUnreadableReport))
	model := harness.Create(t, r.Lab, bt.MakePod("asks-for-a-model").Model("hf://org/model").NoReference().Obj())
	r.removeAfter(t, model)
	harness.Eventually(t, "the controller makes a profile", func(ctx context.Context) (bool, string) {
		_, err := newParty(r.Config).object("modelprofiles").Get(ctx, berthv1alpha1.ModelProfileName("hf://org/model"), metav1.GetOptions{})
		return err == nil, errorText(err)
	})
}

// admitAnything makes the CRD of reports take whatever is sent, and returns its schema before.
func (r *room) admitAnything(t *testing.T) any {
	t.Helper()
	crd, err := r.crds().Get(t.Context(), reportsCRD, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.patchSchema(t.Context(), map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}); err != nil {
		t.Fatal(err)
	}
	return versions[0].(map[string]any)["schema"].(map[string]any)["openAPIV3Schema"]
}

func (r *room) patchSchema(ctx context.Context, to any) error {
	patch, err := json.Marshal([]any{map[string]any{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": to}})
	if err != nil {
		return err
	}
	_, err = r.crds().Patch(ctx, reportsCRD, types.JSONPatchType, patch, metav1.PatchOptions{})
	return err
}

// waitsBecause waits until a pod is unschedulable for a reason.
func (r *room) waitsBecause(t *testing.T, pod *corev1.Pod, reason string) {
	t.Helper()
	harness.Eventually(t, "pod "+pod.Name+" waits because "+reason, func(context.Context) (bool, string) {
		message := r.WaitUnschedulable(t, pod)
		return strings.Contains(message, reason), message
	})
}

// losesAPI: while a scheduler that starts cannot read what is Berth's, pods with GPU memory wait and say why. Others do not
// wait, though the scheduling loop is one.
func (r *room) losesAPI(t *testing.T) {
	apiServices := dynamic.NewForConfigOrDie(r.Config).Resource(
		schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"})
	version := berthv1alpha1.GroupVersion.Version + "." + berthv1alpha1.GroupName
	away := `{"metadata":{"labels":{"kube-aggregator.kubernetes.io/automanaged":null}},
		"spec":{"insecureSkipTLSVerify":true,"service":{"namespace":"default","name":"away","port":443}}}`
	if _, err := apiServices.Patch(t.Context(), version, types.MergePatchType, []byte(away), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the API is gone", func(ctx context.Context) (bool, string) {
		_, err := newParty(r.Config).reports().Get(ctx, honest, metav1.GetOptions{})
		return apierrors.IsServiceUnavailable(err), errorText(err)
	})
	if err := syscall.Kill(r.Child(t, "scheduler"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	pod := harness.Create(t, r.Lab, r.pod("waits-for-the-api", honest))
	r.removeAfter(t, pod)
	r.placed(t, r.pod("plain", honest, func(p *corev1.Pod) { p.Annotations = nil }))
	r.waitsBecause(t, pod, "the informers of Berth have not synced yet")

	if err := apiServices.Delete(t.Context(), version, metav1.DeleteOptions{}); err != nil { // the apiserver makes it again as it was
		t.Fatal(err)
	}
	r.boundAtLast(t, pod)
}

// boundAtLast waits until a pod is bound, longer than other waits: an informer that failed for a while tries again after up to
// a minute only.
func (r *room) boundAtLast(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 2*time.Minute, true, func(context.Context) (bool, error) {
		return r.Pod(t, pod).Spec.NodeName != "", nil
	})
	if err != nil {
		t.Fatalf("pod %s is not bound: %+v", pod.Name, r.Pod(t, pod).Status.Conditions)
	}
}

// losesCRD: without reports, pods with GPU memory wait and say so, and all goes on once they are back.
func (r *room) losesCRD(t *testing.T) {
	crd, err := r.crds().Get(t.Context(), reportsCRD, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.crds().Delete(t.Context(), reportsCRD, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the CRD is gone", func(ctx context.Context) (bool, string) {
		_, err := r.crds().Get(ctx, reportsCRD, metav1.GetOptions{})
		return apierrors.IsNotFound(err), errorText(err)
	})
	pod := harness.Create(t, r.Lab, r.pod("waits-for-the-crd", honest))
	r.removeAfter(t, pod)
	r.waitsBecause(t, pod, string(gpustate.ReasonNoReport))

	crd.SetUID("")
	crd.SetResourceVersion("")
	unstructured.RemoveNestedField(crd.Object, "status")
	if _, err := r.crds().Create(t.Context(), crd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "reports are written again", func(ctx context.Context) (bool, string) {
		err := r.TryReport(ctx, reportOf(honest))
		return err == nil, errorText(err)
	})
	r.boundAtLast(t, pod)
}
