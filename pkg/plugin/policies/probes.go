// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// Namespace is where the probes are tried, and Account, of that namespace, is who tries them: manifests/rbac/probes.yaml.
	Namespace = "berth-probes"
	Account   = "berth-probe"

	// probeName is the name of all that is tried, and handOffProbeName that of the pod of which tellingPolicy tells what was
	// added to it.
	probeName        = "berth-probe"
	handOffProbeName = "berth-probe-handoff"
	tellingPolicy    = "berth-probe"
)

// probe is what a policy has to refuse.
type probe struct {
	policy string
	// mutating says that the policy changes objects: not every apiserver has such.
	mutating bool
	// send tries it, as a dry run. Nil if no dry run shows the policy: it is read then.
	send func(context.Context, kubernetes.Interface) error
	// judge reads the answer.
	judge func(policy string, answer error) (Finding, bool)
}

// probes has one for each policy of manifests/policies, by name. Each violates one policy only: of several that refuse a
// request, the apiserver names any one.
var probes = []probe{
	{policy: "berth-agent", judge: judge, send: foreignReport},
	{policy: "berth-allocation", judge: judge, send: create(annotated(berthv1alpha1.AnnotationGPUUUIDs, "GPU-0"))},
	// A Binding of a pod that waits for its allocation: there is no pod.
	{policy: "berth-binding"},
	// The controller's writes of the status of a Node and of a report: the account of the probes is not the controller's.
	{policy: "berth-controller-node"},
	{policy: "berth-controller-report"},
	{policy: "berth-devices", judge: judge, send: create(annotated("cdi.k8s.io/berth-probe", "nvidia.com/gpu=all"))},
	{policy: "berth-handoff", mutating: true, judge: judgeHandOff, send: create(func(pod *corev1.Pod) {
		pod.Name, pod.Spec.SchedulerName = handOffProbeName, berthv1alpha1.SchedulerName
	})},
	// A container that is added to a pod: there is no pod.
	{policy: "berth-handoff-ephemeral", mutating: true},
	// A Binding of the scheduler's account, which the account of the probes is not.
	{policy: "berth-leader-term"},
	{policy: "berth-request-immutable", judge: judge, send: bindWithRequest},
	{policy: "berth-request-pod", judge: judge, send: create(annotated(berthv1alpha1.GroupName+"/probe", "1"))},
	{policy: "berth-request-values", judge: judge, send: create(func(pod *corev1.Pod) {
		annotated(berthv1alpha1.AnnotationGPUMemory, "none")(pod)
		pod.Spec.SchedulerName = berthv1alpha1.SchedulerName
	})},
}

// Names returns the names of the policies that are checked, sorted.
func Names() []string {
	names := make([]string, len(probes))
	for i := range probes {
		names[i] = probes[i].policy
	}
	return names
}

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// create tries to make a pod that is never scheduled.
func create(change func(*corev1.Pod)) func(context.Context, kubernetes.Interface) error {
	return func(ctx context.Context, client kubernetes.Interface) error {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: probeName, Namespace: Namespace},
			Spec: corev1.PodSpec{
				ServiceAccountName: Account, AutomountServiceAccountToken: ptr.To(false),
				SchedulingGates: []corev1.PodSchedulingGate{{Name: "berth.dev/probe"}},
				SecurityContext: &corev1.PodSecurityContext{
					RunAsNonRoot: ptr.To(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				},
				Containers: []corev1.Container{{
					Name: "probe", Image: "berth.invalid/probe:none",
					SecurityContext: &corev1.SecurityContext{
						AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
						Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
					},
				}},
			},
		}
		change(pod)
		_, err := client.CoreV1().Pods(Namespace).Create(ctx, pod, dryRun)
		return err
	}
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Annotations = map[string]string{key: value} }
}

// bindWithRequest tries to bind a pod that does not exist and to give it a request.
func bindWithRequest(ctx context.Context, client kubernetes.Interface) error {
	return client.CoreV1().Pods(Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{
			Name: probeName, Namespace: Namespace, Annotations: map[string]string{berthv1alpha1.AnnotationGPUMemory: "1Gi"},
		},
		Target: corev1.ObjectReference{Kind: "Node", Name: probeName},
	}, dryRun)
}

// foreignReport tries to make a report without a token that names the node; the policy takes the account of the probes for
// an agent's.
func foreignReport(ctx context.Context, client kubernetes.Interface) error {
	body := []byte(`{"apiVersion":"` + berthv1alpha1.GroupVersion.String() + `","kind":"GPUNode","metadata":{"name":"` + probeName + `"}}`)
	return client.CoreV1().RESTClient().Post().AbsPath("apis", berthv1alpha1.GroupVersion.String(), "gpunodes").
		Param("dryRun", metav1.DryRunAll).SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
}
