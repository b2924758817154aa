// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// fakeAPI is as much of an API server as the plugin talks to when it binds and recovers: pods, and their binding. A
// clientset that fakes would not show what a lost answer looks like on the wire.
type fakeAPI struct {
	*httptest.Server
	mu   sync.Mutex
	pods map[string]*corev1.Pod
	// onBind decides what happens to a Binding of a pod: whether it is applied, and what is answered, if anything.
	onBind func(pod *corev1.Pod) (apply bool, answer error, silent bool)
	// readError, if not nil, answers reads of pods.
	readError error
	reads     int
	bindings  []corev1.Binding
	// listedBy is the selectors of lists.
	listedBy []string
	// deleted are the names of the pods that were deleted; onDelete decides what is answered.
	deleted  []string
	onDelete func(name string) error
	// evicted are the names of the pods that were evicted, unless evictError is the answer.
	evicted    []string
	evictError error
	// events are those that were created by name.
	events   map[string]eventsv1.Event
	noEvents bool
}

func newFakeAPI(t testing.TB) *fakeAPI {
	a := &fakeAPI{pods: map[string]*corev1.Pod{}, events: map[string]eventsv1.Event{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/namespaces/{namespace}/pods/{name}/binding", a.bind)
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods/{name}", a.get)
	mux.HandleFunc("POST /api/v1/namespaces/{namespace}/pods/{name}/eviction", a.evict)
	mux.HandleFunc("GET /api/v1/pods", a.list)
	mux.HandleFunc("PATCH /api/v1/namespaces/{namespace}/pods/{name}/status", a.patch)
	mux.HandleFunc("DELETE /api/v1/namespaces/{namespace}/pods/{name}", a.delete)
	mux.HandleFunc("POST /apis/events.k8s.io/v1/namespaces/{namespace}/events", a.event)
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.CloseClientConnections)
	t.Cleanup(a.Close)
	return a
}

func (a *fakeAPI) evict(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.evictError == nil {
		a.evicted = append(a.evicted, r.PathValue("name"))
	}
	reply(w, &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess}, a.evictError)
}

// refuseEvictions answers evictions with an error from now on; nil = with success.
func (a *fakeAPI) refuseEvictions(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.evictError = err
}

// takeEvicted returns the pods that were evicted since it was called last.
func (a *fakeAPI) takeEvicted() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	evicted := a.evicted
	a.evicted = nil
	return evicted
}

func (a *fakeAPI) event(w http.ResponseWriter, r *http.Request) {
	var event eventsv1.Event
	body, err := io.ReadAll(r.Body)
	if err == nil { // which is protobuf
		_, _, err = scheme.Codecs.UniversalDeserializer().Decode(body, nil, &event)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.noEvents {
		reply(w, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, event.Name, nil))
		return
	}
	if _, ok := a.events[event.Name]; ok {
		reply(w, nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: "events"}, event.Name))
		return
	}
	a.events[event.Name] = event
	reply(w, &event, nil)
}

func (a *fakeAPI) failEvents(fail bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.noEvents = fail
}

// notes returns what the events on pods say that were written without a recorder.
func (a *fakeAPI) notes() (notes []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		notes = append(notes, e.Regarding.Name+" "+e.Reason+": "+e.Note)
	}
	slices.Sort(notes)
	return notes
}

// add puts pods into the API server.
func (a *fakeAPI) add(pods ...*corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range pods {
		a.pods[p.Name] = p.DeepCopy()
	}
}

func (a *fakeAPI) remove(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.pods, name)
}

// pod returns a pod as the API server has it now.
func (a *fakeAPI) pod(name string) *corev1.Pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pods[name].DeepCopy()
}

// readCount is how often a pod was read.
func (a *fakeAPI) readCount() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reads
}

// lists returns the selectors of the lists so far.
func (a *fakeAPI) lists() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.listedBy)
}

func (a *fakeAPI) failReads(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.readError = err
}

// apply is what a Binding does.
func (a *fakeAPI) apply(b *corev1.Binding) error {
	p := a.pods[b.Name]
	switch {
	case p == nil:
		return apierrors.NewNotFound(podResource, b.Name)
	case p.UID != b.UID:
		return apierrors.NewConflict(podResource, b.Name, nil)
	case p.Spec.NodeName != "":
		return alreadyBound(b.Name)
	}
	p.Spec.NodeName = b.Target.Name
	for k, v := range b.Annotations {
		p.Annotations[k] = v
	}
	return nil
}

var podResource = schema.GroupResource{Resource: "pods"}

func alreadyBound(name string) error {
	return apierrors.NewConflict(podResource, name, apierrors.NewBadRequest("pod "+name+" is already assigned to node"))
}

func (a *fakeAPI) bind(w http.ResponseWriter, r *http.Request) {
	var b corev1.Binding
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	b.Name = r.PathValue("name")
	a.bindings = append(a.bindings, b)
	apply, answer, silent := true, error(nil), false
	if a.onBind != nil {
		apply, answer, silent = a.onBind(a.pods[b.Name])
	}
	if apply {
		if err := a.apply(&b); err != nil && answer == nil {
			answer = err
		}
	}
	a.mu.Unlock()
	if silent {
		<-r.Context().Done()
		return
	}
	reply(w, &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess}, answer)
}

func (a *fakeAPI) get(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads++
	p, err := a.pods[r.PathValue("name")], a.readError
	if p == nil && err == nil {
		err = apierrors.NewNotFound(podResource, r.PathValue("name"))
	}
	reply(w, p, err)
}

func (a *fakeAPI) list(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	query := r.URL.Query()
	a.listedBy = append(a.listedBy, "labelSelector="+query.Get("labelSelector")+" fieldSelector="+query.Get("fieldSelector"))
	list := &corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for _, p := range a.pods {
		if p.Spec.NodeName != "" || !strings.Contains(r.URL.RawQuery, "nodeName") {
			list.Items = append(list.Items, *p)
		}
	}
	reply(w, list, a.readError)
}

// patch changes nothing.
func (a *fakeAPI) patch(w http.ResponseWriter, r *http.Request) {
	reply(w, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: r.PathValue("name")}}, nil)
}

func (a *fakeAPI) delete(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := r.PathValue("name")
	var answer error
	if a.onDelete != nil {
		answer = a.onDelete(name)
	}
	if answer == nil {
		a.deleted = append(a.deleted, name)
	}
	reply(w, &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess}, answer)
}

// takeDeleted returns the names of the pods that were deleted since it was last called, sorted.
func (a *fakeAPI) takeDeleted() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.deleted
	a.deleted = nil
	slices.Sort(out)
	return out
}

func reply(w http.ResponseWriter, obj any, err error) {
	code := http.StatusOK
	if err != nil {
		status := err.(apierrors.APIStatus).Status()
		status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		obj, code = &status, int(status.Code)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(obj)
}
