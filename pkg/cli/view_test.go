// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/ui"
)

// resourceOf returns the group and the resource that a path is of, as GROUP/RESOURCE; empty if it is of none, which everybody
// may read.
func resourceOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	group := ""
	if parts[0] == "apis" {
		group, parts = parts[1], parts[1:]
	}
	if len(parts) > 4 && parts[2] == "namespaces" {
		parts = parts[2:]
	}
	if len(parts) < 3 {
		return ""
	}
	return group + "/" + parts[2]
}

// TestBerthViewIsWhatIsRead: the roles berth-view allow what kubectl berth snapshot, explain, check and ui read, and nothing else.
func TestBerthViewIsWhatIsRead(t *testing.T) {
	objects, err := manifests.Objects("rbac/viewer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{} // whether it was used, by group/resource, or watch group/resource
	for _, o := range objects {
		if o.GetName() != "berth-view" {
			continue
		}
		role := rbacv1.ClusterRole{} // a Role has the same rules
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			want := []string{"get", "list"}
			if len(rule.ResourceNames) > 0 {
				want = want[:1]
			}
			watch := slices.Equal(rule.Verbs, []string{"get", "list", "watch"})
			if !slices.Equal(rule.Verbs, want) && !watch {
				t.Errorf("%v may do %v", rule.Resources, rule.Verbs)
			}
			for _, resource := range rule.Resources {
				allowed[rule.APIGroups[0]+"/"+resource] = false
				if watch {
					allowed["watch "+rule.APIGroups[0]+"/"+resource] = false
				}
			}
		}
	}
	var mu sync.Mutex
	a := &api{lists: roomy(running("low", "60Gi"))}
	a.lists["/apis/admissionregistration.k8s.io/v1"] = metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "mutatingadmissionpolicies"}}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if what := resourceOf(r.URL.Path); what != "" {
			if r.URL.Query().Has("watch") {
				what = "watch " + what
			}
			mu.Lock()
			if _, ok := allowed[what]; !ok {
				t.Errorf("%s is read, and berth-view does not allow it", what)
			}
			allowed[what] = true
			mu.Unlock()
		}
		a.ServeHTTP(w, r)
	}))
	defer server.Close()
	for _, args := range [][]string{{"explain", "pod/low", "-n", "default"}, {"check"}} {
		command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &bytes.Buffer{}, ErrOut: &bytes.Buffer{}})
		command.SetArgs(append(args, "--server", server.URL))
		if err := command.ExecuteContext(t.Context()); ExitCode(err) > 1 { // this cluster has no policies
			t.Fatal(err)
		}
	}
	world, err := ui.OfCluster(&rest.Config{Host: server.URL}, "lab", "default")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	followed := make(chan struct{})
	go func() { defer close(followed); world.Run(ctx) }()
	for _, path := range []string{"/api/v1/map", "/api/v1/usage?by=namespace", "/api/v1/history", "/api/v1/models", "/api/v1/what-if", "/api/v1/pods/default/low/explain"} {
		if code, text := (&asked{path: path}).answer(t, world); code != http.StatusOK {
			t.Errorf("%s: %d: %s", path, code, text)
		}
	}
	bt.Eventually(t, "all that may be watched is watched", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for what, used := range allowed {
			if !used && strings.HasPrefix(what, "watch ") {
				return false
			}
		}
		return true
	})
	stop()
	<-followed
	mu.Lock()
	defer mu.Unlock()
	for what, used := range allowed {
		if !used {
			t.Errorf("berth-view allows %s, which is not read", what)
		}
	}
}
