// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/cli/explain"
	"github.com/berth-dev/berth/pkg/cli/whatif"
)

func (s *served) document(path string, into any) {
	s.t.Helper()
	response, text := s.ask(http.MethodGet, path, "", nil)
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil || response.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: %s: %v\n%s", path, response.Status, err, text)
	}
}

// TestHistoryIsThatOfTheExplanations: of each pod it has what kubectl berth explain says is recorded of it.
func TestHistoryIsThatOfTheExplanations(t *testing.T) {
	s := serve(t, ofLook(t))
	var h History
	s.document("/api/v1/history", &h)
	if len(h.Entries) < 10 || h.Kind != KindHistory || h.APIVersion != APIVersion {
		t.Fatalf("%+v", h)
	}
	of := map[whatif.Name][]explain.Entry{}
	for i, e := range h.Entries {
		of[e.Name] = append(of[e.Name], e.Entry)
		if i > 0 && !e.Time.IsZero() && e.Time.After(h.Entries[i-1].Time.Time) && !h.Entries[i-1].Time.IsZero() {
			t.Errorf("entry %d is later than the one before", i)
		}
	}
	pods := 0
	for name, entries := range of {
		if pods++; pods > 3 {
			break
		}
		var e explain.Explanation
		s.document("/api/v1/pods/"+name.Namespace+"/"+name.Name+"/explain", &e)
		if diff := cmp.Diff(e.History, explain.Sort(entries)); diff != "" {
			t.Errorf("%v (-explain +history)\n%s", name, diff)
		}
	}
}

func TestEvictionsSayForWhom(t *testing.T) {
	pod := func(name string) *corev1.ObjectReference {
		return &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: name, UID: types.UID(name)}
	}
	event := corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}, InvolvedObject: *pod("victim"), Related: pod("chat"),
		Reason: "EvictedForGPUMemory", Message: "evicted for default/chat", ReportingController: berthv1alpha1.SchedulerName,
		LastTimestamp: metav1.Unix(1e9, 0),
	}
	want := HistoryEntry{
		Name: whatif.Name{Namespace: "default", Name: "victim"}, Eviction: true, For: &whatif.Name{Namespace: "default", Name: "chat"},
		Entry: explain.Entry{Time: event.LastTimestamp, Source: explain.SourceEvent, Text: "EvictedForGPUMemory: evicted for default/chat"},
	}
	for name, tt := range map[string]struct {
		api  *api
		want []HistoryEntry
		note string
	}{
		"an eviction":                 {&api{events: []corev1.Event{event}}, []HistoryEntry{want}, ""},
		"Events that may not be read": {&api{}, []HistoryEntry{}, "Events could not be read, so evictions are not shown"},
		"pods that wait are no evictions": {
			&api{events: []corev1.Event{}, pods: []corev1.Pod{*bt.MakePod("waits").Memory("1Gi").Obj()}}, []HistoryEntry{}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var h History
			serve(t, ofAPI(t, tt.api)).document("/api/v1/history", &h)
			if diff := cmp.Diff(tt.want, h.Entries); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if tt.note != "" && !strings.Contains(strings.Join(h.Notes, "\n"), tt.note) {
				t.Errorf("want %q in %q", tt.note, h.Notes)
			}
		})
	}
}
