// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/cli/explain"
	"github.com/berth-dev/berth/pkg/cli/whatif"
)

// maxEntries is how many entries a history has: the latest.
const maxEntries = 500

// history tells what stands on pods that Berth has something to do with, and what Events tell of evictions.
func (s *Server) history(ctx context.Context, _ *http.Request) (any, error) {
	objects, _, err := s.world.source.Objects(ctx, "", false)
	if err != nil {
		return nil, err
	}
	h := &History{TypeMeta: typeOf(KindHistory), Time: metav1.NewTime(objects.Time), Entries: []HistoryEntry{}, Notes: objects.Notes}
	for i := range objects.Pods {
		if pod := &objects.Pods[i]; berthv1alpha1.AsksForGPUMemory(pod) {
			h.add(pod, nil, explain.OfPod(pod))
		}
	}
	if err := s.addEvictions(ctx, h); err != nil {
		return nil, err
	}
	slices.SortStableFunc(h.Entries, func(a, b HistoryEntry) int {
		return cmp.Or(compareTimes(b.Time, a.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name.Name, b.Name.Name))
	})
	if h.Left = max(0, len(h.Entries)-maxEntries); h.Left > 0 {
		h.Entries = h.Entries[:maxEntries]
	}
	return h, nil
}

func (s *Server) addEvictions(ctx context.Context, h *History) error {
	source := s.world.source
	if source.Client == nil {
		h.Notes = append(h.Notes, "A file has no Events: of evictions it has what stands on pods that are still there")
		return nil
	}
	events, all, err := source.Client.Evictions(ctx, source.Namespace)
	switch {
	case apierrors.IsForbidden(err):
		h.Notes = append(h.Notes, "Events could not be read, so evictions are not shown")
		return nil
	case err != nil:
		return err
	case !all:
		h.Notes = append(h.Notes, "Events of other namespaces than "+source.Namespace+" could not be read, so evictions there are not shown")
	}
	for i := range events {
		of := events[i].InvolvedObject
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: of.Namespace, Name: of.Name}}
		h.add(pod, events[i].Related, explain.OfEvents(pod, events[i:i+1]))
	}
	return nil
}

func (h *History) add(pod *corev1.Pod, related *corev1.ObjectReference, entries []explain.Entry) {
	for _, entry := range entries {
		e := HistoryEntry{Name: whatif.Name{Namespace: pod.Namespace, Name: pod.Name}, Entry: entry}
		e.Eviction = entry.Source == explain.SourceEvent || strings.HasPrefix(entry.Text, string(corev1.DisruptionTarget)+"=")
		if related != nil && related.Kind == "Pod" {
			e.For = &whatif.Name{Namespace: related.Namespace, Name: related.Name}
		}
		h.Entries = append(h.Entries, e)
	}
}

// compareTimes compares times; none is now, after all others.
func compareTimes(a, b metav1.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}
	return a.Compare(b.Time)
}
