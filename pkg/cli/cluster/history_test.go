// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// answers is an API server that has an answer for each path and query, and refuses everything else.
func answers(t *testing.T, answers map[string]string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path+"?"+r.URL.RawQuery]
		if !ok {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
			return
		}
		if strings.HasPrefix(answer, "{") {
			w.Header().Set("Content-Type", "application/json")
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	c, err := New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const schedulerPods = `{"kind":"PodList","apiVersion":"v1","items":[
{"metadata":{"name":"s-1","namespace":"berth-system"},"spec":{"containers":[{"name":"scheduler"}]},"status":{"containerStatuses":[{"name":"scheduler","restartCount":1}]}},
{"metadata":{"name":"s-2","namespace":"berth-system"},"spec":{"containers":[{"name":"scheduler"}]}}]}`

const podsPath = "/api/v1/namespaces/berth-system/pods"

func TestLogsOfAllContainersOfTheSchedulerAreRead(t *testing.T) {
	const query = "container=scheduler&sinceTime=2026-11-23T12%3A00%3A00Z&timestamps=true"
	c := answers(t, map[string]string{
		podsPath + "?labelSelector=app.kubernetes.io%2Fname%3Dberth-scheduler":                                     schedulerPods,
		podsPath + "/s-1/log?" + query:                                                                             "one, now",
		podsPath + "/s-1/log?container=scheduler&previous=true&sinceTime=2026-11-23T12%3A00%3A00Z&timestamps=true": "one, before",
	})
	var got []string
	notes, err := c.SchedulerLogs(t.Context(), time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), func(log io.Reader) error {
		text, err := io.ReadAll(log)
		got = append(got, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []string{"one, before", "one, now"}) {
		t.Errorf("read %q", got)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "pod s-2 could not be read") || !strings.Contains(notes[0], "pods/log") {
		t.Errorf("notes %q", notes)
	}
}

func TestThatThereIsNoLogIsTold(t *testing.T) {
	for _, tc := range []struct{ list, want string }{
		{"", "could not be read"},
		{`{"kind":"PodList","apiVersion":"v1","items":[]}`, "has no pods"},
	} {
		known := map[string]string{}
		if tc.list != "" {
			known[podsPath+"?labelSelector=app.kubernetes.io%2Fname%3Dberth-scheduler"] = tc.list
		}
		notes, err := answers(t, known).SchedulerLogs(t.Context(), time.Time{}, nil)
		if err != nil || len(notes) != 1 || !strings.Contains(notes[0], tc.want) {
			t.Errorf("notes %q (%v), want %q", notes, err, tc.want)
		}
	}
}

// TestEvictionsElsewhereAreNamedAsNotReadable: a user of one namespace sees what happened there.
func TestEvictionsElsewhereAreNamedAsNotReadable(t *testing.T) {
	const (
		events = "/api/v1/namespaces/ns/events"
		item   = `{"kind":"EventList","apiVersion":"v1","items":[{"metadata":{"name":%q,"namespace":"ns"},"reason":%[1]q,"involvedObject":{"kind":"Pod","namespace":"ns","name":%q}}]}`
	)
	known := map[string]string{
		events + "?fieldSelector=involvedObject.kind%3DPod%2CinvolvedObject.name%3Dp": fmt.Sprintf(item, "own", "p"),
		events + "?fieldSelector=reason%3DEvictedForGPUMemory":                        fmt.Sprintf(item, "victims", "v"),
	}
	names := func(known map[string]string) (names []string, notes []string) {
		found, notes, err := answers(t, known).HistoryEvents(t.Context(), "ns", "p")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range found {
			names = append(names, e.Name)
		}
		return names, notes
	}
	got, notes := names(known)
	if !slices.Equal(got, []string{"own", "victims"}) || len(notes) != 1 || !strings.Contains(notes[0], "other namespaces") {
		t.Errorf("of one namespace: %q, notes %q", got, notes)
	}
	known["/api/v1/events?fieldSelector=reason%3DEvictedForGPUMemory"] = fmt.Sprintf(item, "everywhere", "v")
	if got, notes = names(known); !slices.Equal(got, []string{"own", "everywhere"}) || len(notes) != 0 {
		t.Errorf("of all namespaces: %q, notes %q", got, notes)
	}
	if got, notes = names(nil); len(got) != 0 || len(notes) != 1 {
		t.Errorf("of none: %q, notes %q", got, notes)
	}
}
