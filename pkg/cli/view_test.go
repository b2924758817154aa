// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/manifests"
)

// TestBerthViewIsWhatIsRead: the roles berth-view allow what kubectl berth snapshot and explain read, and nothing else.
func TestBerthViewIsWhatIsRead(t *testing.T) {
	objects, err := manifests.Objects("rbac/viewer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{} // whether it was used, by group/resource
	for _, o := range objects {
		if o.GetName() != "berth-view" {
			continue
		}
		role := rbacv1.ClusterRole{} // a Role has the same rules
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			if !slices.Equal(rule.Verbs, []string{"get", "list"}) {
				t.Errorf("%v may do %v", rule.Resources, rule.Verbs)
			}
			for _, resource := range rule.Resources {
				allowed[rule.APIGroups[0]+"/"+resource] = false
			}
		}
	}
	var mu sync.Mutex
	a := &api{lists: roomy(running("low", "60Gi"))}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		group := ""
		if parts[0] == "apis" {
			group = parts[1]
		}
		what := group + "/" + parts[len(parts)-1]
		mu.Lock()
		if _, ok := allowed[what]; !ok {
			t.Errorf("%s is read, and berth-view does not allow it", what)
		}
		allowed[what] = true
		mu.Unlock()
		a.ServeHTTP(w, r)
	}))
	defer server.Close()
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &bytes.Buffer{}, ErrOut: &bytes.Buffer{}})
	command.SetArgs([]string{"explain", "pod/low", "-n", "default", "--server", server.URL})
	if err := command.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, used := range allowed {
		if !used {
			t.Errorf("berth-view allows %s, which is not read", what)
		}
	}
}
