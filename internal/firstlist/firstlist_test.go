// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package firstlist

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// patience is how long something may take that is no matter of speed.
const patience = 30 * time.Second

// apiserver answers lists of Nodes with what it is told, and takes no watches.
type apiserver struct {
	*httptest.Server
	// list answers lists; it can be changed at any time.
	list atomic.Pointer[http.HandlerFunc]
	// lists counts the answers.
	lists atomic.Int32
}

func newAPIServer(t *testing.T, list http.HandlerFunc) *apiserver {
	t.Helper()
	a := &apiserver{}
	a.list.Store(&list)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "" {
			http.Error(w, "no watches here", http.StatusBadRequest)
			return
		}
		(*a.list.Load())(w, r)
		a.lists.Add(1)
	}))
	t.Cleanup(a.Close)
	return a
}

// waitLists waits for so many answers.
func (a *apiserver) waitLists(t *testing.T, n int32) {
	t.Helper()
	for deadline := time.Now().Add(patience); a.lists.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d lists were answered, want %d", a.lists.Load(), n)
		}
	}
}

func waitSynced(t *testing.T, informer cache.SharedIndexInformer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("the informer does not sync")
	}
}

func livesOn(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		t.Errorf("the process ended: %v", err)
	default:
	}
}

func status(s metav1.Status) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(int(s.Code))
		_ = json.NewEncoder(w).Encode(s) // a client that is gone
	}
}

var (
	nodes     = schema.GroupResource{Resource: "nodes"}
	forbidden = status(apierrors.NewForbidden(nodes, "", nil).Status())
	notServed = http.HandlerFunc(http.NotFound)
)

func emptyList(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(corev1.NodeList{ // a client that is gone
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, ListMeta: metav1.ListMeta{ResourceVersion: "7"},
	})
}

// informer runs an informer of Nodes that is guarded, and returns it and what the process would end with.
type informer func(t *testing.T, client kubernetes.Interface) (cache.SharedIndexInformer, <-chan error)

func ofFactory(watched bool) informer {
	return func(t *testing.T, client kubernetes.Interface) (cache.SharedIndexInformer, <-chan error) {
		factory := informers.NewSharedInformerFactory(client, 0)
		ended := make(chan error, 1000)
		guard := &Guard{end: func(err error) { ended <- err }}
		if watched {
			guard.Watch(factory)
		} else {
			guard.Watch(informers.NewSharedInformerFactory(client, 0))
		}
		handlers := utilruntime.ErrorHandlers
		utilruntime.ErrorHandlers = []utilruntime.ErrorHandler{guard.HandleError}
		ctx, cancel := context.WithCancel(context.Background())
		nodes := factory.Core().V1().Nodes().Informer()
		factory.Start(ctx.Done())
		t.Cleanup(func() {
			cancel()
			factory.Shutdown()
			utilruntime.ErrorHandlers = handlers
		})
		return nodes, ended
	}
}

func ofOurOwn(t *testing.T, client kubernetes.Interface) (cache.SharedIndexInformer, <-chan error) {
	ended := make(chan error, 1000)
	nodes := informers.NewSharedInformerFactory(client, 0).Core().V1().Nodes().Informer()
	if err := nodes.SetWatchErrorHandlerWithContext(watchErrorHandler(func(err error) { ended <- err })); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		nodes.RunWithContext(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return nodes, ended
}

func TestFirstList(t *testing.T) {
	tests := []struct {
		name  string
		first http.HandlerFunc
		// want is in what the process ends with; empty if it lives on.
		want []string
	}{
		{"the account may not list", forbidden, []string{"may not list nodes", "manifests/rbac", "is forbidden"}},
		{"the apiserver does not serve the resource", notServed, []string{"cannot list nodes", "--emulated-version", "--feature-gates"}},
		{"the apiserver is out of order", status(apierrors.NewInternalError(context.DeadlineExceeded).Status()), nil},
		{"the apiserver is not ready", status(apierrors.NewServiceUnavailable("later").Status()), nil},
		{"the apiserver has too much to do", status(apierrors.NewTooManyRequests("later", 0).Status()), nil},
		{"the apiserver took too long", status(apierrors.NewTimeoutError("slow", 0).Status()), nil},
		{"the credentials are not known yet", status(apierrors.NewUnauthorized("who?").Status()), nil},
	}
	for name, run := range map[string]informer{"of a factory": ofFactory(true), "of our own": ofOurOwn} {
		for _, tt := range tests {
			t.Run(name+": "+tt.name, func(t *testing.T) {
				server := newAPIServer(t, tt.first)
				client := kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL, QPS: -1})
				nodes, ended := run(t, client)
				if len(tt.want) > 0 {
					select {
					case err := <-ended:
						for _, want := range tt.want {
							if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
								t.Errorf("error %q is not one line with %q", err, want)
							}
						}
					case <-time.After(patience):
						t.Fatal("the process lives on")
					}
					return
				}
				list := http.HandlerFunc(emptyList)
				server.waitLists(t, 1)
				server.list.Store(&list)
				waitSynced(t, nodes)
				livesOn(t, ended)
			})
		}
		t.Run(name+": what happens after the first list is client-go's to mend", func(t *testing.T) {
			server := newAPIServer(t, emptyList)
			nodes, ended := run(t, kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL, QPS: -1}))
			waitSynced(t, nodes)
			refusal := forbidden
			server.list.Store(&refusal)
			server.waitLists(t, server.lists.Load()+2) // the first may have been asked for before
			livesOn(t, ended)
		})
	}
}

// TestOthersMayFail is about informers beside the factory, such as the one of the authentication of requests, which
// kube-scheduler does without.
func TestOthersMayFail(t *testing.T) {
	server := newAPIServer(t, forbidden)
	_, ended := ofFactory(false)(t, kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL, QPS: -1}))
	server.waitLists(t, 2) // so that the first was dealt with
	livesOn(t, ended)
}

func TestRefusalNamesTheRemedy(t *testing.T) {
	gpuNodes := schema.GroupResource{Group: "berth.dev", Resource: "gpunodes"}
	err := Refusal(apierrors.NewGenericServerResponse(http.StatusNotFound, "get", gpuNodes, "", "", 0, true))
	if err == nil || !strings.Contains(err.Error(), "gpunodes.berth.dev") || !strings.Contains(err.Error(), "manifests/crd") {
		t.Errorf("error = %v, want one that names gpunodes.berth.dev and manifests/crd", err)
	}
}
