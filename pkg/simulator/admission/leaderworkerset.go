// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

// GroupKindLeaderWorkerSet is that of LeaderWorkerSet, by which engines run a model on several nodes.
var GroupKindLeaderWorkerSet = schema.GroupKind{Group: "leaderworkerset.x-k8s.io", Kind: "LeaderWorkerSet"}

// LeaderWorkerSet is what of one says which pods there will be (kubernetes-sigs/lws, api/leaderworkerset/v1).
type LeaderWorkerSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Replicas             *int32 `json:"replicas"`
		LeaderWorkerTemplate struct {
			LeaderTemplate       *corev1.PodTemplateSpec        `json:"leaderTemplate"`
			WorkerTemplate       corev1.PodTemplateSpec         `json:"workerTemplate"`
			Size                 *int32                         `json:"size"`
			VolumeClaimTemplates []corev1.PersistentVolumeClaim `json:"volumeClaimTemplates"`
		} `json:"leaderWorkerTemplate"`
	} `json:"spec"`
}

// DeepCopyObject implements runtime.Object; nothing copies one.
func (l *LeaderWorkerSet) DeepCopyObject() runtime.Object { next := *l; return &next }

// pods returns the leader and the workers of each group, which are named and labelled as the controller does.
func (l *LeaderWorkerSet) pods(namespace string) (pods []*corev1.Pod, claims []*corev1.PersistentVolumeClaim) {
	const prefix = "leaderworkerset.sigs.k8s.io/"
	t := &l.Spec.LeaderWorkerTemplate
	leader := ptr.Deref(t.LeaderTemplate, t.WorkerTemplate)
	for group := range ptr.Deref(l.Spec.Replicas, 1) {
		name, owner, template := fmt.Sprintf("%s-%d", l.Name, group), l.Name, &leader
		for worker := range ptr.Deref(t.Size, 1) {
			pod := fromTemplate(template, namespace, name)
			if worker > 0 {
				pod.Name = fmt.Sprintf("%s-%d", name, worker)
			}
			if pod.Labels == nil {
				pod.Labels = map[string]string{}
			}
			pod.Labels[prefix+"name"] = l.Name
			pod.Labels[prefix+"group-index"] = strconv.Itoa(int(group))
			pod.Labels[prefix+"worker-index"] = strconv.Itoa(int(worker))
			pod.OwnerReferences = []metav1.OwnerReference{controllerRef("StatefulSet", owner)}
			pods = append(pods, pod)
			owner, template = name, &t.WorkerTemplate
		}
	}
	return pods, claimsOf(pods, t.VolumeClaimTemplates)
}
