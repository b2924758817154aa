// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package answers

import (
	"context"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/pkg/cli/explain"
)

// noEvents is what is told where Events are gone, which is no sign that nothing happened.
const noEvents = "No Event tells of a decision about the pod: clusters keep Events for an hour, unless they are set up otherwise. " +
	"The scheduler's log has them for longer: --logs reads it"

// Explain says why a pod waits, or where it would go now, and what is recorded of it; logs says that the scheduler's log is read
// for that.
func (s *Source) Explain(ctx context.Context, namespace, name string, logs bool) (*explain.Explanation, error) {
	snapshot, err := s.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	pod := snapshot.Pod(namespace, name).DeepCopy()
	if pod == nil && s.Client != nil || pod != nil && pod.DeletionTimestamp != nil {
		e := explain.Gone(snapshot.Time, namespace, name)
		if err := s.addHistory(ctx, e, pod, logs); err != nil {
			return nil, err
		}
		if len(e.History) > 0 {
			return e, nil
		}
	}
	e, err := explain.Ask(ctx, snapshot, namespace, name)
	if err != nil {
		return nil, err
	}
	if (e.BoundTo != "" || len(e.Missing) > 0) && s.Client != nil {
		events, note, err := s.Client.EventsOf(ctx, pod)
		if err != nil {
			return nil, err
		}
		e.Recorded = explain.RecordedBy(events)
		if note != "" {
			e.Notes = append(e.Notes, note)
		}
	}
	return e, s.addHistory(ctx, e, pod, logs)
}

// addHistory adds what is recorded of a pod, as far as it can be read; pod is nil if it is gone.
func (s *Source) addHistory(ctx context.Context, e *explain.Explanation, pod *corev1.Pod, logs bool) error {
	if pod == nil {
		pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name.Name}}
	}
	entries := explain.OfPod(pod)
	if s.Client != nil {
		more, notes, err := s.recordedBy(ctx, pod, logs)
		if err != nil {
			return err
		}
		entries, e.Notes = append(entries, more...), append(e.Notes, notes...)
	}
	e.History = explain.Sort(entries)
	return nil
}

// recordedBy returns what Events, and logs if they are asked for, have of a pod.
func (s *Source) recordedBy(ctx context.Context, pod *corev1.Pod, logs bool) (entries []explain.Entry, notes []string, err error) {
	events, notes, err := s.Client.HistoryEvents(ctx, pod.Namespace, pod.Name)
	if err != nil {
		return nil, nil, err
	}
	entries = explain.OfEvents(pod, events)
	if len(entries) == 0 && len(notes) == 0 && !logs {
		notes = append(notes, noEvents)
	}
	if !logs {
		return entries, notes, nil
	}
	found := 0
	more, err := s.Client.SchedulerLogs(ctx, sinceOf(pod), func(log io.Reader) error {
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
