// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
)

// api answers lists as an API server does, and refuses those that are not in it.
type api struct {
	lists map[string]any
	// ahead is how far its clock is ahead of ours.
	ahead time.Duration
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().Add(a.ahead).UTC().Format(http.TimeFormat))
	w.Header().Set("Content-Type", "application/json")
	list, ok := a.lists[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusForbidden)
		list = metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
			Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden, Message: r.URL.Path + " is forbidden",
		}
	}
	_ = json.NewEncoder(w).Encode(list)
}

const (
	nodesPath      = "/api/v1/nodes"
	podsPath       = "/api/v1/pods"
	gpuNodesPath   = "/apis/berth.dev/v1alpha1/gpunodes"
	profilesPath   = "/apis/berth.dev/v1alpha1/modelprofiles"
	leasesPath     = "/apis/coordination.k8s.io/v1/namespaces/berth-system/leases"
	configMapsPath = "/api/v1/namespaces/berth-system/configmaps"
)

// oneNode is a cluster of one node with one GPU, whose agent renewed its Lease at a time.
func oneNode(renewed time.Time) map[string]any {
	kind := func(apiVersion, kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
	}
	name := metav1.ObjectMeta{Name: "gpu-a"}
	berth := berthv1alpha1.GroupVersion.String()
	return map[string]any{
		nodesPath: corev1.NodeList{TypeMeta: kind("v1", "NodeList"), Items: []corev1.Node{{ObjectMeta: name}}},
		podsPath:  corev1.PodList{TypeMeta: kind("v1", "PodList")},
		gpuNodesPath: berthv1alpha1.GPUNodeList{TypeMeta: kind(berth, "GPUNodeList"), Items: []berthv1alpha1.GPUNode{{
			ObjectMeta: name,
			Status: berthv1alpha1.GPUNodeStatus{Devices: []berthv1alpha1.GPUDevice{{
				UUID: "GPU-a0", Memory: berthv1alpha1.GPUMemory{Total: resource.MustParse("80Gi")},
			}}},
		}}},
		profilesPath: berthv1alpha1.ModelProfileList{TypeMeta: kind(berth, "ModelProfileList")},
		leasesPath: coordinationv1.LeaseList{TypeMeta: kind("coordination.k8s.io/v1", "LeaseList"), Items: []coordinationv1.Lease{{
			ObjectMeta: name, Spec: coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: renewed}},
		}}},
		configMapsPath: corev1.ConfigMapList{TypeMeta: kind("v1", "ConfigMapList")},
	}
}

// top runs kubectl berth top against an API.
func top(t *testing.T, a *api, args ...string) (stdout string, err error) {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	var out, errOut bytes.Buffer
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut})
	command.SetArgs(append([]string{"top", "--server", server.URL}, args...))
	err = command.ExecuteContext(t.Context())
	return out.String(), err
}

func TestTopJSONIsAMap(t *testing.T) {
	out, err := top(t, &api{lists: oneNode(time.Now())}, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var m gpumap.Map
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		t.Fatal(err)
	}
	if m.APIVersion != gpumap.APIVersion || m.Kind != gpumap.Kind || len(m.Nodes) != 1 || len(m.Nodes[0].Devices) != 1 {
		t.Fatalf("got %s", out)
	}
	// 80Gi less the default headroom of 256Mi.
	if got, want := m.Nodes[0].Devices[0].Free, int64(80<<30-256<<20); got != want {
		t.Errorf("free is %d, want %d", got, want)
	}
}

func TestTopTellsAgesByTheServersClock(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"behind": -3 * time.Hour, "ahead": 3 * time.Hour} {
		t.Run("the server is "+name, func(t *testing.T) {
			out, err := top(t, &api{lists: oneNode(time.Now().Add(ahead)), ahead: ahead})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out, "stale") {
				t.Errorf("an agent heard of just now is stale:\n%s", out)
			}
		})
	}
	out, err := top(t, &api{lists: oneNode(time.Now().Add(-2 * time.Minute))})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "stale") {
		t.Errorf("an agent heard of two minutes ago is not stale:\n%s", out)
	}
}

func TestTopUsesTheSchedulersArguments(t *testing.T) {
	lists := oneNode(time.Now().Add(-time.Hour))
	lists[configMapsPath] = corev1.ConfigMapList{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMapList"},
		Items: []corev1.ConfigMap{{
			ObjectMeta: metav1.ObjectMeta{Name: "berth-scheduler", Namespace: "berth-system"},
			Data: map[string]string{
				"config.yaml": "profiles: [{schedulerName: berth, pluginConfig: [{name: Berth, args: {headroom: 4Gi, staleAfter: 0s}}]}]",
			},
		}},
	}
	out, err := top(t, &api{lists: lists})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "76Gi free") || strings.Contains(out, "stale") {
		t.Errorf("want 76Gi free on a node that is never stale, got:\n%s", out)
	}
}

func TestTopDoesWithoutWhatAUserMayNotRead(t *testing.T) {
	lists := oneNode(time.Now().Add(-time.Hour))
	for _, path := range []string{leasesPath, profilesPath, configMapsPath} {
		delete(lists, path)
	}
	out, err := top(t, &api{lists: lists})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "Leases in berth-system could not be read") || !strings.Contains(out, "79.8Gi free") {
		t.Errorf("want 79.8Gi free and a note about Leases, got:\n%s", out)
	}
}

func TestTopErrorsSayWhatIsWrong(t *testing.T) {
	noPods := oneNode(time.Now())
	delete(noPods, podsPath)
	tests := map[string]struct {
		lists map[string]any
		args  []string
		want  string
	}{
		"an unknown node":           {oneNode(time.Now()), []string{"gpu-b"}, `there is no node "gpu-b"`},
		"an unknown output format":  {oneNode(time.Now()), []string{"-o", "yaml"}, "use json or wide"},
		"pods that may not be read": {noPods, nil, "list pods: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := top(t, &api{lists: tt.lists}, tt.args...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestTopWatchShowsFramesUntilInterrupted(t *testing.T) {
	server := httptest.NewServer(&api{lists: oneNode(time.Now())})
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	out := &interrupting{after: 1, interrupt: cancel}
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: out, ErrOut: &bytes.Buffer{}})
	command.SetArgs([]string{"top", "--watch", "--server", server.URL})
	if err := command.ExecuteContext(ctx); err != nil {
		t.Errorf("an interrupted watch is an error: %v", err)
	}
	if out.frames != 1 {
		t.Errorf("%d frames after the interrupt", out.frames)
	}
}

// interrupting counts what is written to it, and interrupts after some writes.
type interrupting struct {
	frames, after int
	interrupt     func()
}

func (w *interrupting) Write(p []byte) (int, error) {
	if w.frames++; w.frames == w.after {
		w.interrupt()
	}
	return len(p), nil
}
