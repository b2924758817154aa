// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/pkg/cli/cluster"
	"github.com/berth-dev/berth/pkg/cli/explain"
)

// noEvents is what is told where Events are gone, which is no sign that nothing happened.
const noEvents = "No Event tells of a decision about the pod: clusters keep Events for an hour, unless they are set up otherwise. " +
	"The scheduler's log has them for longer: --logs reads it"

// addHistory adds what is recorded of a pod, as far as it can be read; pod is nil if it is gone.
func (o *explainOptions) addHistory(ctx context.Context, e *explain.Explanation, pod *corev1.Pod) error {
	if pod == nil {
		pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name.Name}}
	}
	entries := explain.OfPod(pod)
	if o.source.file == "" {
		client, err := o.source.client()
		if err != nil {
			return err
		}
		more, notes, err := o.recordedBy(ctx, client, pod)
		if err != nil {
			return err
		}
		entries, e.Notes = append(entries, more...), append(e.Notes, notes...)
	}
	e.History = explain.Sort(entries)
	return nil
}

// recordedBy returns what Events, and logs if they are asked for, have of a pod.
func (o *explainOptions) recordedBy(ctx context.Context, client *cluster.Client, pod *corev1.Pod) (entries []explain.Entry, notes []string, err error) {
	events, notes, err := client.HistoryEvents(ctx, pod.Namespace, pod.Name)
	if err != nil {
		return nil, nil, err
	}
	entries = explain.OfEvents(pod, events)
	if len(entries) == 0 && len(notes) == 0 && !o.logs {
		notes = append(notes, noEvents)
	}
	if !o.logs {
		return entries, notes, nil
	}
	found := 0
	more, err := client.SchedulerLogs(ctx, sinceOf(pod), func(log io.Reader) error {
		lines, err := explain.OfLog(log, pod.Namespace, pod.Name)
		entries, found = append(entries, lines...), found+len(lines)
		return err
	})
	if found == 0 && len(more) == 0 {
		more = append(more, "The scheduler's log has no line about a decision on the pod: it may have been rotated, or be of a lower -v than 2")
	}
	return entries, append(notes, more...), err
}

// sinceOf returns from when on lines are about a pod: before, they are about another one of its name.
func sinceOf(pod *corev1.Pod) time.Time { return pod.CreationTimestamp.Time }
