// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	utilpod "k8s.io/kubernetes/pkg/util/pod"
)

const (
	// orphanPeriod is how often pods of nodes that are gone are looked for, and quarantine is how long a node has to be
	// gone; both as in kube-controller-manager.
	orphanPeriod = 20 * time.Second
	quarantine   = 40 * time.Second
)

// orphanCollector does what the pod garbage collector does about pods whose node is gone: they fail, and are deleted. It
// stands in for that one because its package links the kubelet's eviction manager, and with it a good part of the kubelet.
type orphanCollector struct {
	client kubernetes.Interface
	pods   corelisters.PodLister
	nodes  corelisters.NodeLister
	synced []cache.InformerSynced
	// missing is since when nodes that pods are bound to have not been there.
	missing map[string]time.Time
}

func newOrphanCollector(_ context.Context, s *shared) (loop, error) {
	pods, nodes := s.informers.Core().V1().Pods(), s.informers.Core().V1().Nodes()
	c := &orphanCollector{
		client: s.client, pods: pods.Lister(), nodes: nodes.Lister(),
		synced: []cache.InformerSynced{pods.Informer().HasSynced, nodes.Informer().HasSynced},
	}
	return c.run, nil
}

func (c *orphanCollector) run(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return
	}
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := c.collect(ctx, time.Now()); err != nil {
			klog.FromContext(ctx).Error(err, "Failed to delete pods of nodes that are gone")
		}
	}, orphanPeriod)
}

// collect deletes the pods of the nodes that have been gone for the quarantine.
func (c *orphanCollector) collect(ctx context.Context, now time.Time) error {
	pods, err := c.pods.List(labels.Everything())
	if err != nil {
		return err
	}
	orphans := map[string][]*corev1.Pod{}
	for _, pod := range pods {
		if pod.Spec.NodeName == "" {
			continue
		}
		if _, err := c.nodes.Get(pod.Spec.NodeName); apierrors.IsNotFound(err) {
			orphans[pod.Spec.NodeName] = append(orphans[pod.Spec.NodeName], pod)
		}
	}
	missing := make(map[string]time.Time, len(orphans))
	var errs []error
	for node, pods := range orphans {
		since, known := c.missing[node]
		if !known {
			since = now
		}
		missing[node] = since
		if now.Sub(since) < quarantine {
			continue
		}
		// The informer may lag behind.
		if _, err := c.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			errs = append(errs, err)
			continue
		}
		for _, pod := range pods {
			errs = append(errs, c.remove(ctx, pod))
		}
	}
	c.missing = missing
	return errors.Join(errs...)
}

// remove lets a pod fail, as its kubelet can no longer say so, and deletes it.
func (c *orphanCollector) remove(ctx context.Context, pod *corev1.Pod) error {
	if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
		status := pod.Status.DeepCopy()
		status.Phase = corev1.PodFailed
		podutil.UpdatePodCondition(status, &corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
			Reason: "DeletionByPodGC", Message: "PodGC: node no longer exists",
		})
		_, _, _, err := utilpod.PatchPodStatus(ctx, c.client, pod.Namespace, pod.Name, pod.UID, pod.Status, *status)
		if err != nil {
			return err
		}
	}
	return c.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *metav1.NewDeleteOptions(0))
}
