// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	schedulerUser = "system:serviceaccount:berth-system:berth-scheduler"
	agentUser     = "system:serviceaccount:berth-system:berth-agent"
	// controllerUser is in these tests allowed everything by RBAC, as all users are.
	controllerUser = "system:serviceaccount:berth-system:berth-controller"
	defaultUser    = "system:kube-scheduler"
	adminUser      = "kubernetes-admin"
)

// denied says whether a policy, rather than anything else, refused.
func denied(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) }

func check(t *testing.T, what string, err error, allowed bool) {
	t.Helper()
	switch {
	case allowed && err != nil:
		t.Errorf("%s: refused: %v", what, err)
	case !allowed && err == nil:
		t.Errorf("%s: allowed", what)
	case !allowed && !denied(err):
		t.Errorf("%s: failed for another reason: %v", what, err)
	}
}

// annotate patches annotations of the pod through a subresource ("" is the pod itself).
func annotate(ctx context.Context, client kubernetes.Interface, pod, subresource string, annotations map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}})
	if err != nil {
		return err
	}
	var subresources []string
	if subresource != "" {
		subresources = []string{subresource}
	}
	_, err = client.CoreV1().Pods(metav1.NamespaceDefault).
		Patch(ctx, pod, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, subresources...)
	return err
}

// TestOnlyTheSchedulerWritesAllocations tries every way to write an allocation annotation, as everybody.
func TestOnlyTheSchedulerWritesAllocations(t *testing.T) {
	c := needCluster(t)
	pod := create(t, requestingPod("allocated"))
	plain := requestingPod("plain")
	plain.Annotations, plain.Spec.SchedulerName = nil, corev1.DefaultSchedulerName
	plain = create(t, plain)

	for _, key := range []string{
		berthv1alpha1.AnnotationAllocation, berthv1alpha1.AnnotationGPUUUIDs, berthv1alpha1.AnnotationTensorParallelSize,
		berthv1alpha1.AnnotationGPUMemoryUtilization, berthv1alpha1.AnnotationTensorSplit, berthv1alpha1.AnnotationVisibleDevices,
		berthv1alpha1.AnnotationMemFractionStatic, berthv1alpha1.AnnotationFreeGPUMemoryFraction,
		berthv1alpha1.AnnotationGPUMemoryLimit, berthv1alpha1.AnnotationBoundBy,
	} {
		for user, allowed := range map[string]bool{schedulerUser: true, agentUser: false, defaultUser: false, adminUser: false} {
			client := c.as(user, nil)
			for _, scheduler := range []string{berthv1alpha1.SchedulerName, corev1.DefaultSchedulerName, "other"} {
				born := requestingPod("born")
				born.Annotations, born.Spec.SchedulerName = map[string]string{key: "x"}, scheduler
				_, err := client.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), born, dryRun)
				check(t, user+" creates a pod of "+scheduler+" with "+key, err, allowed)
			}
			for _, name := range []string{pod.Name, plain.Name} {
				for _, subresource := range []string{"", "status"} {
					err := annotate(t.Context(), client, name, subresource, map[string]any{key: "x"})
					check(t, user+" patches "+name+"/"+subresource+" with "+key, err, allowed)
					if err == nil {
						check(t, user+" removes it", annotate(t.Context(), client, name, subresource, map[string]any{key: nil}), allowed)
					}
				}
			}
		}
		// What is there cannot be changed or taken away either.
		if err := annotate(t.Context(), c.as(schedulerUser, nil), pod.Name, "", map[string]any{key: "x"}); err != nil {
			t.Fatal(err)
		}
		for _, subresource := range []string{"", "status"} {
			for what, value := range map[string]any{"changes": "y", "removes": nil} {
				err := annotate(t.Context(), c.as(adminUser, nil), pod.Name, subresource, map[string]any{key: value})
				check(t, "an administrator "+what+" "+key+" through pods/"+subresource, err, false)
			}
		}
	}
	label := []byte(`{"metadata":{"labels":{"` + berthv1alpha1.LabelAllocated + `":null}}}`)
	_, err := c.admin.CoreV1().Pods(metav1.NamespaceDefault).
		Patch(t.Context(), pod.Name, types.MergePatchType, label, metav1.PatchOptions{})
	check(t, "an administrator removes the label", err, false)
}

// TestSubresourcesCannotCarryAnAllocation tries those whose handlers drop metadata today: a refusal and an
// unchanged pod are both right.
func TestSubresourcesCannotCarryAnAllocation(t *testing.T) {
	c := needCluster(t)
	pod := create(t, requestingPod("subresources"))
	for _, subresource := range []string{"resize", "ephemeralcontainers"} {
		err := annotate(t.Context(), c.as(adminUser, nil), pod.Name, subresource, map[string]any{berthv1alpha1.AnnotationGPUUUIDs: "GPU-a"})
		got, getErr := c.admin.CoreV1().Pods(metav1.NamespaceDefault).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if getErr != nil {
			t.Fatal(getErr)
		}
		if uuids, ok := got.Annotations[berthv1alpha1.AnnotationGPUUUIDs]; ok {
			t.Errorf("pods/%s wrote %q (error %v)", subresource, uuids, err)
		}
	}
}

// bind binds the pod, through the subresource of pods or through the older resource.
func bind(ctx context.Context, client kubernetes.Interface, pod string, legacy bool, change func(*corev1.Binding)) error {
	binding := &corev1.Binding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Binding"},
		ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: metav1.NamespaceDefault},
		Target:     corev1.ObjectReference{Kind: "Node", Name: "node"},
	}
	if change != nil {
		change(binding)
	}
	if !legacy {
		return client.CoreV1().Pods(metav1.NamespaceDefault).Bind(ctx, binding, metav1.CreateOptions{})
	}
	return client.CoreV1().RESTClient().Post().Namespace(metav1.NamespaceDefault).Resource("bindings").
		Body(binding).Do(ctx).Error()
}

// TestOnlyTheSchedulerBindsRequests: pods without a request are bound by whoever may, those with one by the
// scheduler and with an allocation only, and nobody but the scheduler brings an allocation or the label in a Binding.
func TestOnlyTheSchedulerBindsRequests(t *testing.T) {
	c := needCluster(t)
	allocation := func(b *corev1.Binding) {
		b.Annotations = map[string]string{berthv1alpha1.AnnotationGPUUUIDs: "GPU-a", berthv1alpha1.AnnotationAllocation: "{}"}
		b.Labels = map[string]string{berthv1alpha1.LabelAllocated: "true"}
	}
	onlyLabel := func(b *corev1.Binding) { b.Labels = map[string]string{berthv1alpha1.LabelAllocated: "true"} }
	onlyAnnotations := func(b *corev1.Binding) { b.Annotations = map[string]string{berthv1alpha1.AnnotationAllocation: "{}"} }
	request := func(b *corev1.Binding) { b.Annotations = map[string]string{berthv1alpha1.AnnotationGPUMemory: "1Gi"} }
	tests := []struct {
		name    string
		request bool
		user    string
		change  func(*corev1.Binding)
		allowed bool
	}{
		{"the scheduler with an allocation", true, schedulerUser, allocation, true},
		{"the scheduler without label and allocation", true, schedulerUser, nil, false},
		{"the scheduler with annotations and without the label", true, schedulerUser, onlyAnnotations, false},
		{"the default scheduler", true, defaultUser, nil, false},
		{"an administrator", true, adminUser, nil, false},
		{"an administrator with an allocation", true, adminUser, allocation, false},
		{"an administrator with the label that spares the search", true, adminUser, onlyLabel, false},
		{"the default scheduler, a pod without a request", false, defaultUser, nil, true},
		{"an administrator, a pod without a request", false, adminUser, nil, true},
		{"the scheduler, a pod without a request", false, schedulerUser, nil, true},
		{"an administrator with an allocation, a pod without a request", false, adminUser, allocation, false},
		{"an administrator with a request, a pod without one", false, adminUser, request, false},
		{"the scheduler with a request, a pod without one", false, schedulerUser, request, false},
	}
	create(t, requestingPod("another-that-waits"))
	for _, tc := range tests {
		for _, legacy := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				pod := requestingPod("to-bind")
				if !tc.request {
					pod.Annotations = nil
				}
				pod = create(t, pod)
				if tc.request && !tc.allowed {
					waitUntilRefused(t, c.as(tc.user, nil), pod.Name)
				}
				err := bind(t.Context(), c.as(tc.user, nil), pod.Name, legacy, tc.change)
				check(t, "bind", err, tc.allowed)
				got, err := c.admin.CoreV1().Pods(metav1.NamespaceDefault).Get(t.Context(), pod.Name, metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if bound := got.Spec.NodeName != ""; bound != tc.allowed {
					t.Errorf("node %q", got.Spec.NodeName)
				}
				if tc.allowed && tc.change != nil && got.Labels[berthv1alpha1.LabelAllocated] != "true" {
					t.Errorf("labels %v", got.Labels)
				}
			})
		}
	}
}

// waitUntilRefused waits until the apiserver's own cache has the pod, which the policy looks up there.
func waitUntilRefused(t *testing.T, client kubernetes.Interface, pod string) {
	t.Helper()
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod}, Target: corev1.ObjectReference{Kind: "Node", Name: "node"},
	}
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 5*time.Second, true, func(ctx context.Context) (bool, error) {
		return denied(client.CoreV1().Pods(metav1.NamespaceDefault).Bind(ctx, binding, dryRun)), nil
	})
	if err != nil {
		t.Fatal("a dry run of the binding is not refused")
	}
}

// TestAgentsWriteTheirOwnNodesObjects tries all writes of GPUNodes and Leases with and without the claim that names
// the token's node.
func TestAgentsWriteTheirOwnNodesObjects(t *testing.T) {
	c := needCluster(t)
	claim := func(nodes ...string) map[string][]string {
		return map[string][]string{"authentication.kubernetes.io/node-name": nodes}
	}
	tests := []struct {
		name    string
		user    string
		extra   map[string][]string
		object  string
		allowed bool
	}{
		{"its own", agentUser, claim("node-a"), "node-a", true},
		{"another's", agentUser, claim("node-a"), "node-b", false},
		{"without the claim", agentUser, nil, "node-a", false},
		{"with an empty claim", agentUser, claim(""), "node-a", false},
		{"with two claims", agentUser, claim("node-a", "node-b"), "node-a", false},
		{"a node of the name of the scheduler's lease", agentUser, claim("berth-scheduler"), "berth-scheduler", true},
		{"an administrator", adminUser, nil, "node-a", true},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			config := c.config(tc.user, tc.extra)
			gpuNodes := dynamic.NewForConfigOrDie(config).Resource(berthv1alpha1.GroupVersion.WithResource("gpunodes"))
			adminNodes := dynamic.NewForConfigOrDie(c.controlPlane.Config()).Resource(berthv1alpha1.GroupVersion.WithResource("gpunodes"))
			object := &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": berthv1alpha1.GroupVersion.String(), "kind": "GPUNode",
				"metadata": map[string]any{"name": tc.object},
				"status":   map[string]any{"driverVersion": "580.1"},
			}}
			_, err := gpuNodes.Create(t.Context(), object, metav1.CreateOptions{})
			check(t, "create", err, tc.allowed)
			if err != nil {
				if _, err := adminNodes.Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			apply := metav1.ApplyOptions{FieldManager: "test", Force: true}
			_, err = gpuNodes.Apply(t.Context(), tc.object, object, apply)
			check(t, "apply", err, tc.allowed)
			_, err = gpuNodes.ApplyStatus(t.Context(), tc.object, object, apply)
			check(t, "apply the status", err, tc.allowed)
			_, err = gpuNodes.Patch(t.Context(), tc.object, types.MergePatchType,
				[]byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
			check(t, "patch", err, tc.allowed)
			err = gpuNodes.Delete(t.Context(), tc.object, metav1.DeleteOptions{})
			check(t, "delete", err, tc.allowed)
			if err != nil {
				if err := adminNodes.Delete(t.Context(), tc.object, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			checkLease(t, c.as(tc.user, tc.extra), tc.object, tc.allowed && tc.object != "berth-scheduler")
		})
	}
}

func checkLease(t *testing.T, client kubernetes.Interface, name string, allowed bool) {
	t.Helper()
	leases := client.CoordinationV1().Leases(berthv1alpha1.Namespace)
	adminLeases := cluster.admin.CoordinationV1().Leases(berthv1alpha1.Namespace)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := leases.Create(t.Context(), lease, metav1.CreateOptions{})
	check(t, "create the lease", err, allowed)
	if err != nil {
		if _, err := adminLeases.Create(t.Context(), lease, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = leases.Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec":{"holderIdentity":"x"}}`), metav1.PatchOptions{})
	check(t, "renew the lease", err, allowed)
	err = leases.Delete(t.Context(), name, metav1.DeleteOptions{})
	check(t, "delete the lease", err, allowed)
	if err != nil {
		if err := adminLeases.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestControllerWritesOnlyWhatPodsHaveShown: its right to patch reports, which RBAC cannot narrow, says nothing of GPUs.
func TestControllerWritesOnlyWhatPodsHaveShown(t *testing.T) {
	c := needCluster(t)
	const name = "node-shown"
	gpuNodes := func(config *rest.Config) dynamic.ResourceInterface {
		return dynamic.NewForConfigOrDie(config).Resource(berthv1alpha1.GroupVersion.WithResource("gpunodes"))
	}
	admin := gpuNodes(c.controlPlane.Config())
	report := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(`{"apiVersion":"berth.dev/v1alpha1","kind":"GPUNode","metadata":{"name":"`+name+`"},"status":{
"driverVersion":"580.1","devices":[{"uuid":"GPU-a","memory":{"total":"80Gi"}}],"observedTime":"2026-01-01T00:00:00Z","summary":{"gpus":1,"free":"1Gi","largestFree":"1Gi"},
"handOff":{"runtimes":[{"handler":"nvidia","accepts":["CDI"]}],"changedTime":"2026-01-01T00:00:00Z"}}}`), report); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Create(t.Context(), report, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	if _, err := admin.ApplyStatus(t.Context(), name, report, metav1.ApplyOptions{FieldManager: "berth-agent", Force: true}); err != nil {
		t.Fatal(err)
	}
	controller := gpuNodes(c.config(controllerUser, nil))
	for _, tc := range []struct {
		name, patch string
		allowed     bool
	}{
		{"what pods have shown", `{"handOff":{"shown":[{"handler":"nvidia","form":"CDI","works":true,"seenTime":"2026-01-01T00:00:00Z"}]}}`, true},
		{"that it is not so any more", `{"handOff":{"shown":null}}`, true},
		{"what files say", `{"handOff":{"runtimes":[]}}`, false},
		{"when files changed", `{"handOff":{"changedTime":null}}`, false},
		{"which pods lack their GPUs", `{"handOff":{"notInjected":["a"]}}`, false},
		{"no hand-off at all", `{"handOff":null}`, false},
		{"other devices", `{"devices":[]}`, false},
		{"more memory", `{"devices":[{"uuid":"GPU-a","memory":{"total":"90Gi"}}]}`, false},
		{"another driver", `{"driverVersion":"1"}`, false},
		{"that assignments are not known", `{"assignmentsUnknown":"x"}`, false},
		{"another summary", `{"summary":null}`, false},
		{"another time", `{"observedTime":"2026-01-02T00:00:00Z"}`, false},
		{"no report", `null`, false},
	} {
		_, err := controller.Patch(t.Context(), name, types.MergePatchType, []byte(`{"status":`+tc.patch+`}`), metav1.PatchOptions{}, "status")
		check(t, "the controller writes "+tc.name, err, tc.allowed)
	}
	check(t, "the controller deletes it", controller.Delete(t.Context(), name, metav1.DeleteOptions{}), false)
	_, err := controller.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "berth.dev/v1alpha1", "kind": "GPUNode", "metadata": map[string]any{"name": "other"},
	}}, metav1.CreateOptions{})
	check(t, "the controller makes one", err, false)
}
