// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// eventEvicted is the reason of the Events on pods that were evicted for another.
const eventEvicted = "EvictedForGPUMemory"

// HistoryEvents returns the Events on pods of a name, and those on pods that were evicted for others, in all namespaces or
// as far as they may be read; the notes say what may not.
func (c *Client) HistoryEvents(ctx context.Context, namespace, name string) (events []corev1.Event, notes []string, err error) {
	of := fields.AndSelectors(
		fields.OneTermEqualSelector("involvedObject.kind", "Pod"), fields.OneTermEqualSelector("involvedObject.name", name))
	list, err := c.kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: of.String()})
	switch {
	case unreadable(err):
		return nil, []string{"Events could not be read, so it is not shown what was told of the pod"}, nil
	case err != nil:
		return nil, nil, fmt.Errorf("list Events of pod %s/%s: %w", namespace, name, err)
	}
	events = list.Items
	evictions, all, err := c.Evictions(ctx, namespace)
	if err != nil {
		return nil, nil, err
	}
	if !all {
		notes = append(notes, "Events of other namespaces could not be read, so evictions there for this pod are not shown")
	}
	for i := range evictions {
		if e := &evictions[i]; e.InvolvedObject.Namespace != namespace || e.InvolvedObject.Name != name {
			events = append(events, *e)
		}
	}
	return events, notes, nil
}

// Evictions returns the Events on pods that were evicted for others, in all namespaces or, where these may not be read, in one.
func (c *Client) Evictions(ctx context.Context, namespace string) (events []corev1.Event, all bool, err error) {
	evictions := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("reason", eventEvicted).String()}
	list, err := c.kube.CoreV1().Events(metav1.NamespaceAll).List(ctx, evictions)
	all = !apierrors.IsForbidden(err)
	if !all {
		list, err = c.kube.CoreV1().Events(namespace).List(ctx, evictions)
	}
	if err != nil {
		return nil, all, fmt.Errorf("list Events of evictions: %w", err)
	}
	return list.Items, all, nil
}

// SchedulerLogs calls read with each log of the scheduler's pods that there is, from a moment on: those of their containers
// that run, and of those before. The notes say what could not be read.
func (c *Client) SchedulerLogs(ctx context.Context, since time.Time, read func(io.Reader) error) (notes []string, err error) {
	pods, err := c.kube.CoreV1().Pods(berthv1alpha1.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=berth-scheduler"})
	switch {
	case unreadable(err):
		return []string{"Pods of " + berthv1alpha1.Namespace + " could not be read, and so no log of the scheduler"}, nil
	case err != nil:
		return nil, fmt.Errorf("list the scheduler's pods: %w", err)
	case len(pods.Items) == 0:
		return []string{"The scheduler has no pods in " + berthv1alpha1.Namespace + ", so there is no log to read"}, nil
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		for _, previous := range []bool{true, false} {
			if previous && !hasRestarted(pod) {
				continue
			}
			if err := c.readLog(ctx, pod, since, previous, read); err != nil {
				notes = append(notes, fmt.Sprintf("The log of the scheduler's pod %s could not be read (it needs get on pods/log in %s): %v",
					pod.Name, berthv1alpha1.Namespace, err))
				break
			}
		}
	}
	return notes, nil
}

func hasRestarted(pod *corev1.Pod) bool {
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].RestartCount > 0 {
			return true
		}
	}
	return false
}

func (c *Client) readLog(ctx context.Context, pod *corev1.Pod, since time.Time, previous bool, read func(io.Reader) error) error {
	options := &corev1.PodLogOptions{Container: pod.Spec.Containers[0].Name, Previous: previous, Timestamps: true}
	if !since.IsZero() {
		options.SinceTime = &metav1.Time{Time: since}
	}
	log, err := c.kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if err != nil {
		return err
	}
	defer log.Close()
	return read(log)
}
