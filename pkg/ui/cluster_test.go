// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
)

// api is an API server of one node. It counts how often it is asked for each list, and tells watches of pods of changes.
type api struct {
	t     *testing.T
	mu    sync.Mutex
	lists map[string]int
	pods  []corev1.Pod
	// events are refused if they are nil.
	events []corev1.Event
	// changes has a value for each change of a pod; mayWatch says whether that may be watched.
	changes  chan struct{}
	mayWatch bool
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodGet {
		a.t.Errorf("%s %s: the page writes", r.Method, r.URL.Path)
	}
	resource := path.Base(r.URL.Path)
	switch {
	case r.URL.Query().Has("watch"):
		a.watch(w, r, resource)
	case strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadata"):
		fmt.Fprint(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[]}`)
	default:
		a.list(w, resource)
	}
}

func (a *api) watch(w http.ResponseWriter, r *http.Request, resource string) {
	if !a.mayWatch {
		refused(w)
		return
	}
	event := func(kind, name, annotations string) {
		fmt.Fprintf(w, `{"type":%q,"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":%q,"namespace":"default","resourceVersion":"2","annotations":{%s}}}}`+"\n",
			kind, name, annotations)
		w.(http.Flusher).Flush()
	}
	if resource == "nodes" { // which was there before, and is no change
		event("ADDED", "gpu-a", "")
	}
	event("BOOKMARK", "", `"k8s.io/initial-events-end":"true"`)
	for n := 0; ; n++ {
		changes := a.changes
		if resource != "pods" {
			changes = nil
		}
		select {
		case <-r.Context().Done():
			return
		case <-changes:
			event("ADDED", fmt.Sprint("p", n), "")
		}
	}
}

func (a *api) list(w http.ResponseWriter, resource string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists[resource]++
	of := func(apiVersion, kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
	}
	berth := berthv1alpha1.GroupVersion.String()
	var list any
	switch resource {
	case "nodes":
		list = corev1.NodeList{TypeMeta: of("v1", "NodeList"), Items: []corev1.Node{*bt.MakeNode("gpu-a")}}
	case "pods":
		list = corev1.PodList{TypeMeta: of("v1", "PodList"), Items: a.pods}
	case "gpunodes":
		list = berthv1alpha1.GPUNodeList{TypeMeta: of(berth, "GPUNodeList"), Items: []berthv1alpha1.GPUNode{*bt.MakeGPUNode("gpu-a").GPU("GPU-a0", "80Gi").Obj()}}
	case "modelprofiles":
		list = berthv1alpha1.ModelProfileList{TypeMeta: of(berth, "ModelProfileList")}
	case "events":
		if a.events == nil {
			refused(w)
			return
		}
		list = corev1.EventList{TypeMeta: of("v1", "EventList"), Items: a.events}
	default:
		refused(w)
		return
	}
	_ = json.NewEncoder(w).Encode(list)
}

func refused(w http.ResponseWriter) {
	w.WriteHeader(http.StatusForbidden)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden,
	})
}

func (a *api) asked(resource string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lists[resource]
}

func ofAPI(t *testing.T, a *api) *World {
	t.Helper()
	a.t, a.lists, a.changes = t, map[string]int{}, make(chan struct{})
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	world, err := OfCluster(&rest.Config{Host: server.URL}, "lab", "default")
	if err != nil {
		t.Fatal(err)
	}
	return world
}

func TestAClusterIsReadOnceForEachRevision(t *testing.T) {
	a := &api{mayWatch: true, events: []corev1.Event{}}
	world := ofAPI(t, a)
	s := serve(t, world)
	bt.Eventually(t, "all is watched", func() bool { return s.get("/api/v1/session")["live"] == string(LiveWatch) })
	_, lines := s.follow(t.Context())
	wantLines(t, lines, "event: revision", `data: {"revision":1}`)
	ask := func() (pending int) {
		m := s.get("/api/v1/map")
		s.get("/api/v1/usage?by=namespace")
		s.get("/api/v1/models")
		s.get("/api/v1/history")
		s.get("/api/v1/what-if")
		return len(m["pendingPods"].([]any))
	}
	if n := ask(); n != 0 || a.asked("pods") != 1 || a.asked("nodes") != 1 || a.asked("leases") != 1 {
		t.Errorf("%d pods wait; the cluster was asked %v", n, a.lists)
	}
	a.mu.Lock()
	a.pods = append(a.pods, *bt.MakePod("waits").Memory("60Gi").Obj())
	a.mu.Unlock()
	a.changes <- struct{}{}
	wantLines(t, lines, "event: revision", `data: {"revision":2}`)
	if n := ask(); n != 1 || a.asked("pods") != 2 || a.asked("nodes") != 1 || a.asked("leases") != 1 || a.asked("events") != 2 {
		t.Errorf("%d pods wait; the cluster was asked %v", n, a.lists)
	}
}

func TestWhoMayNotWatchIsToldLater(t *testing.T) {
	world := ofAPI(t, &api{})
	s := serve(t, world)
	if live := s.get("/api/v1/session")["live"]; live != string(LivePoll) {
		t.Errorf("it is %v", live)
	}
	bt.Eventually(t, "it is refused", func() bool {
		world.watcher.mu.Lock()
		defer world.watcher.mu.Unlock()
		return len(world.watcher.lost) == len(watched)
	})
	if world.watcher.isWatched("pods") {
		t.Error("pods are taken to be watched")
	}
	s.get("/api/v1/map")
	kept := func() bool {
		world.lists.mu.Lock()
		defer world.lists.mu.Unlock()
		return len(world.lists.kept) > 0
	}
	if !kept() {
		t.Error("nothing is kept")
	}
	if world.drop(nil); kept() {
		t.Error("what nobody tells of is kept over time")
	}
}
