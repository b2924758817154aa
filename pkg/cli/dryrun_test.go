// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// admitting is an API that also admits Deployments and pods, as dry runs only.
type admitting struct {
	api
	t *testing.T
	// exists says that the Deployment does, and refuse is why pods are refused.
	exists bool
	refuse string
	// selector is what a webhook adds to pods.
	selector map[string]any

	mu    *sync.Mutex
	asked []string
}

func (a *admitting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kinds := map[string]any{
		"/api":          metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}},
		"/api/v1":       metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: "v1", APIResources: []metav1.APIResource{{Name: "pods", Kind: "Pod", Namespaced: true}}},
		"/apis":         metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList"}, Groups: []metav1.APIGroup{{Name: "apps", Versions: []metav1.GroupVersionForDiscovery{{GroupVersion: "apps/v1", Version: "v1"}}}}},
		"/apis/apps/v1": metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: "apps/v1", APIResources: []metav1.APIResource{{Name: "deployments", Kind: "Deployment", Namespaced: true}}},
	}
	if kind, ok := kinds[r.URL.Path]; ok {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(kind)
		return
	}
	if r.Method == http.MethodGet {
		a.api.ServeHTTP(w, r)
		return
	}
	if got := r.URL.Query()["dryRun"]; len(got) != 1 || got[0] != metav1.DryRunAll {
		a.t.Errorf("%s %s is no dry run", r.Method, r.URL)
	}
	a.mu.Lock()
	a.asked = append(a.asked, r.Method+" "+r.URL.Path)
	a.mu.Unlock()
	refuse := func(code int, reason metav1.StatusReason, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message})
	}
	var object map[string]any
	if err := json.NewDecoder(r.Body).Decode(&object); err != nil {
		a.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	isPod := strings.HasSuffix(r.URL.Path, "/pods")
	switch {
	case isPod && a.refuse != "":
		refuse(http.StatusForbidden, metav1.StatusReasonForbidden, a.refuse)
		return
	case isPod:
		metadata, spec := object["metadata"].(map[string]any), object["spec"].(map[string]any)
		if metadata["generateName"] != nil {
			metadata["name"] = metadata["generateName"].(string) + "x7z"
		}
		spec["nodeSelector"] = a.selector
		container := spec["containers"].([]any)[0].(map[string]any) // as Berth's policy does
		container["env"] = []any{map[string]any{"name": berthv1alpha1.EnvVisibleDevices, "valueFrom": map[string]any{
			"fieldRef": map[string]any{"fieldPath": berthv1alpha1.VisibleDevicesFieldPath},
		}}}
	case a.exists && r.Method == http.MethodPost:
		refuse(http.StatusConflict, metav1.StatusReasonAlreadyExists, "it exists")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object)
}

func (a *admitting) ask(stdin string, args ...string) (out string, err error) {
	server := httptest.NewServer(a)
	a.t.Cleanup(server.Close)
	var stdout, stderr bytes.Buffer
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &stdout, ErrOut: &stderr})
	command.SetArgs(append([]string{"what-if", "--dry-run=server", "--server", server.URL, "--cache-dir", a.t.TempDir()}, args...))
	err = command.ExecuteContext(a.t.Context())
	return stdout.String() + stderr.String(), err
}

func TestDryRunByTheServer(t *testing.T) {
	const denied = `pods "chat" is forbidden: ValidatingAdmissionPolicy 'small' with binding 'small' denied request: at most 10Gi`
	tests := []struct {
		name  string
		given admitting
		stdin string
		args  []string
		code  int
		want  []string // in the output, or in the error
		asked string
	}{
		{
			name: "pods are placed as the cluster would store them", stdin: manifest("2", "20Gi"), args: []string{"-f", "-"},
			want:  []string{"2 of 2 pods would be placed", "default/chat-1"},
			asked: "POST /apis/apps/v1/namespaces/default/deployments,POST /api/v1/namespaces/default/pods,POST /api/v1/namespaces/default/pods",
		},
		{
			name: "what a webhook adds counts", given: admitting{selector: map[string]any{"pool": "b"}}, stdin: manifest("1", "20Gi"), args: []string{"-f", "-"},
			code: 1, want: []string{"didn't match Pod's node affinity/selector"},
		},
		{
			name: "a pod that a policy refuses", given: admitting{refuse: denied}, stdin: manifest("1", "20Gi"), args: []string{"-f", "-"},
			code: 2, want: []string{"pod default/chat-0 would be refused", "at most 10Gi"},
		},
		{
			name: "a Deployment that exists is changed", given: admitting{exists: true}, stdin: manifest("1", "20Gi"), args: []string{"-f", "-"},
			want:  []string{"1 of 1 pod would be placed"},
			asked: "POST /apis/apps/v1/namespaces/default/deployments,PATCH /apis/apps/v1/namespaces/default/deployments/chat,POST /api/v1/namespaces/default/pods",
		},
		{name: "of a file nobody can ask", stdin: manifest("1", "20Gi"), args: []string{"-f", "-", "--from", "x"}, code: 2, want: []string{"--from is a file"}},
		{name: "without manifests", code: 2, want: []string{"name them by -f"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := &tt.given
			a.t, a.lists, a.mu = t, roomy(), &sync.Mutex{}
			out, err := a.ask(tt.stdin, tt.args...)
			if code := ExitCode(err); code != tt.code {
				t.Errorf("status %d, want %d: %v", code, tt.code, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("want %q in\n%s", want, out)
				}
			}
			if asked := strings.Join(a.asked, ","); tt.asked != "" && asked != tt.asked {
				t.Errorf("asked: %s", asked)
			}
		})
	}
}

// TestManifestsOfAFolder are those of a kustomization, or of a folder and of those in it.
func TestManifestsOfAFolder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"base/deployment.yaml":    manifest("1", "10Gi"),
		"base/kustomization.yaml": "resources: [deployment.yaml]\n",
		"prod/kustomization.yaml": "resources: [../base]\nnameSuffix: -prod\nreplicas: [{name: chat, count: 3}]\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"-k", filepath.Join(dir, "prod")}, "default/chat-prod-2", 0},
		{[]string{"-f", filepath.Join(dir, "base", "deployment.yaml")}, "default/chat-0", 0},
		{[]string{"-k", filepath.Join(dir, "prod"), "-R"}, "can't be used", 2},
		{[]string{"-k", filepath.Join(dir, "none")}, "none", 2},
	} {
		out, errOut, err := berth(t, roomy(), "", append([]string{"what-if"}, tt.args...)...)
		if text := out + errOut; ExitCode(err) != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("%v: status %d, %v\n%s", tt.args, ExitCode(err), err, text)
		}
	}
}
