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
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
)

const runtimeClassesPath = "/apis/node.k8s.io/v1/runtimeclasses"

// roomy is oneNode with room for pods, and the RuntimeClass that the policies name.
func roomy(pods ...*corev1.Pod) map[string]any {
	lists := oneNode(time.Now())
	lists[nodesPath] = corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, Items: []corev1.Node{*bt.MakeNode("gpu-a")}}
	lists[runtimeClassesPath] = nodev1.RuntimeClassList{
		TypeMeta: metav1.TypeMeta{APIVersion: "node.k8s.io/v1", Kind: "RuntimeClassList"},
		Items:    []nodev1.RuntimeClass{{ObjectMeta: metav1.ObjectMeta{Name: "nvidia"}, Handler: "nvidia"}},
	}
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	for _, pod := range pods {
		list.Items = append(list.Items, *pod)
	}
	lists[podsPath] = list
	return lists
}

// berth runs kubectl berth against an API, and fails the test if it asks for anything but to read.
func berth(t *testing.T, lists map[string]any, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	a := &api{lists: lists}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s: a command wrote", r.Method, r.URL.Path)
		}
		a.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	var out, errOut bytes.Buffer
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &out, ErrOut: &errOut})
	command.SetArgs(append(args, "--server", server.URL))
	err = command.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

// manifest is a Deployment as a user writes it.
func manifest(replicas, memory string) string {
	return `{apiVersion: apps/v1, kind: Deployment, metadata: {name: chat}, spec: {replicas: ` + replicas + `, selector: {matchLabels: {a: b}},
  template: {metadata: {labels: {a: b}, annotations: {berth.dev/gpu-memory: ` + memory + `}}, spec: {schedulerName: berth, containers: [{name: c, image: i}]}}}}`
}

const (
	leaders = `{apiVersion: leaderworkerset.x-k8s.io/v1, kind: LeaderWorkerSet, metadata: {name: lws}, spec: {replicas: 1, startupPolicy: LeaderReady,
  leaderWorkerTemplate: {size: 2, workerTemplate: {metadata: {annotations: {berth.dev/gpu-memory: 30Gi}}, spec: {schedulerName: berth, containers: [{name: c, image: i}]}}}}}`
	// withVolume is a StatefulSet whose pod has a claim of its own, and the class of it.
	withVolume = `{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: s}, spec: {serviceName: s, selector: {matchLabels: {a: b}},
  volumeClaimTemplates: [{metadata: {name: models}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}],
  template: {metadata: {labels: {a: b}, annotations: {berth.dev/gpu-memory: 30Gi}}, spec: {schedulerName: berth, containers: [{name: c, image: i}]}}}}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: fast, annotations: {storageclass.kubernetes.io/is-default-class: "true"}},
  provisioner: p.example.com, volumeBindingMode: WaitForFirstConsumer}
`
)

// running is a pod that holds memory of the node's GPU.
func running(name, memory string) *corev1.Pod {
	at := time.Now().Add(-time.Hour)
	return bt.MakePod(name).Memory(memory).Bound("gpu-a", at, "GPU-a0="+memory).Started(at).Ready(at).Obj()
}

func TestWhatIf(t *testing.T) {
	tests := []struct {
		name  string
		pods  []*corev1.Pod
		stdin string
		args  []string
		code  int
		want  string // in the output, or in the error
	}{
		{name: "all pods are placed", stdin: manifest("2", "30Gi"), args: []string{"-f", "-"}, want: "2 of 2 pods would be placed, and nobody evicted"},
		{name: "not all are", stdin: manifest("3", "30Gi"), args: []string{"-f", "-"}, code: 1, want: "default/chat-2 stays pending"},
		{name: "by evicting", pods: []*corev1.Pod{running("low", "60Gi")}, stdin: manifest("1", "30Gi"), args: []string{"-f", "-", "--priority", "7"}, want: "default/low"},
		{name: "on a new node", stdin: manifest("3", "60Gi"), args: []string{"-f", "-", "--add-node", "h100-80x2"}, want: "new-h100-80x2-0"},
		{name: "without a pod", pods: []*corev1.Pod{running("low", "60Gi")}, stdin: manifest("1", "60Gi"), args: []string{"-f", "-", "--without", "pod/default/low"}, want: "1 of 1 pod would be placed, and nobody"},
		{name: "on a node that is cordoned", stdin: manifest("1", "60Gi"), args: []string{"-f", "-", "--cordon", "gpu-a"}, code: 1, want: "unschedulable"},
		{name: "beside a GPU that is cordoned", stdin: manifest("1", "60Gi"), args: []string{"-f", "-", "--cordon", "gpu-a/GPU-a0"}, code: 1, want: "not cordoned"},
		{name: "a drain", pods: []*corev1.Pod{running("low", "60Gi")}, args: []string{"--drain", "gpu-a"}, code: 1, want: "default/low stays pending"},
		{name: "a drain onto a new node", pods: []*corev1.Pod{running("low", "60Gi")}, args: []string{"--drain", "gpu-a", "--add-node", "h100-80x1"}, want: "new-h100-80x1-0"},
		{name: "the pods that wait", pods: []*corev1.Pod{bt.MakePod("waits").Memory("60Gi").Obj()}, want: "default/waits"},
		{name: "a LeaderWorkerSet", stdin: leaders, args: []string{"-f", "-"}, want: "default/lws-0-1  gpu-a"},
		{name: "a StatefulSet with its volumes", stdin: withVolume, args: []string{"-f", "-"}, want: "1 of 1 pod would be placed"},
		{name: "a claim of a volume that nobody makes", stdin: strings.Split(withVolume, "---")[0], args: []string{"-f", "-"}, code: 1, want: "unbound immediate"},
		{name: "no manifest", args: []string{"-f", "/no/such/file"}, code: 2, want: "no/such/file"},
		{name: "no pods in it", stdin: "{apiVersion: v1, kind: Service, metadata: {name: s}}", args: []string{"-f", "-"}, code: 2, want: "have no pods"},
		{name: "a field that is not there", stdin: "{apiVersion: v1, kind: Pod, metadata: {name: s}, spec: {schedulerNam: berth}}", args: []string{"-f", "-"}, code: 2, want: "schedulerNam"},
		{name: "a pod of another scheduler", stdin: "{apiVersion: v1, kind: Pod, metadata: {name: s}, spec: {containers: [{name: c, image: i}]}}", args: []string{"-f", "-"}, code: 2, want: `its schedulerName is "default-scheduler"`},
		{name: "a drain of pods of other schedulers", pods: []*corev1.Pod{bt.MakePod("s").Scheduler("other").Node("gpu-a").Obj()}, args: []string{"--drain", "gpu-a"}, want: "not asked: 1"},
		{name: "an unknown flag", args: []string{"--drian", "gpu-a"}, code: 2, want: "unknown flag"},
		{name: "an argument too many", args: []string{"pod"}, code: 2, want: "unknown command"},
		{name: "an unknown node", args: []string{"--drain", "gpu-z"}, code: 2, want: `there is no node "gpu-z"`},
		{name: "an unknown shape", args: []string{"--add-node", "h900x8"}, code: 2, want: "h900"},
		{name: "a shape without a number", args: []string{"--add-node", "h100-80=2"}, code: 2, want: "h100-80x8"},
		{name: "an unknown strategy", args: []string{"--strategy", "Best"}, code: 2, want: "MostAllocated"},
		{name: "beside a GPU that is cordoned by its index", stdin: manifest("1", "60Gi"), args: []string{"-f", "-", "--cordon", "gpu-a/0"}, code: 1, want: "not cordoned"},
		{name: "an unknown GPU", args: []string{"--cordon", "gpu-a/GPU-z"}, code: 2, want: "it has GPU-a0"},
		{name: "a priority of nobody", args: []string{"--priority", "7"}, code: 2, want: "-f"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, errOut, err := berth(t, roomy(tt.pods...), tt.stdin, append([]string{"what-if"}, tt.args...)...)
			if code := ExitCode(err); code != tt.code {
				t.Errorf("status %d, want %d: %v\n%s", code, tt.code, err, out)
			}
			if text := out + errOut; !strings.Contains(text, tt.want) {
				t.Errorf("want %q in\n%s", tt.want, text)
			}
		})
	}
}

// TestWhatIfJSON has the contract of the JSON form.
func TestWhatIfJSON(t *testing.T) {
	out, _, err := berth(t, roomy(running("low", "60Gi")), manifest("2", "50Gi"), "what-if", "-f", "-", "--priority", "7", "-n", "other", "-o", "json")
	if ExitCode(err) != 1 {
		t.Errorf("%v", err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got["apiVersion"] != "cli.berth.dev/v1alpha1" || got["kind"] != "WhatIf" {
		t.Errorf("%v %v", got["apiVersion"], got["kind"])
	}
	pods := got["pods"].([]any)
	want := map[string]any{
		"namespace": "other", "name": "chat-0", "node": "gpu-a", "pending": "", "afterSeconds": 30.0,
		"devices": []any{map[string]any{"uuid": "GPU-a0", "memory": float64(50 << 30)}},
		"victims": []any{map[string]any{"namespace": "default", "name": "low"}},
	}
	if diff := cmp.Diff(want, pods[0]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if second := pods[1].(map[string]any); second["node"] != "" || second["pending"] == "" || len(second["devices"].([]any)) != 0 {
		t.Errorf("%v", second)
	}
}

// TestSnapshotIsTheCluster: what is asked of a file is answered as of the cluster, and no secret is in it.
func TestSnapshotIsTheCluster(t *testing.T) {
	pod := running("low", "60Gi")
	pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env,
		corev1.EnvVar{Name: "HF_TOKEN", Value: "hush"}, corev1.EnvVar{Name: "ANYTHING", Value: "hush"}, corev1.EnvVar{Name: "OLLAMA_NUM_PARALLEL", Value: "4"})
	pod.Spec.Containers[0].Args = []string{"--api-key", "hush", "--hf-token=hush", "--max-num-batched-tokens=8192", "serve --api-key hush"}
	pod.Annotations[corev1.LastAppliedConfigAnnotation] = "hush"
	lists := roomy(pod)
	ask := []string{"what-if", "-f", "-", "-o", "json"}
	of := func(out string) (answer map[string]any) {
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	for _, name := range []string{"s.json", "s.yaml", "s.json.gz", "s.yaml.gz"} {
		file := filepath.Join(t.TempDir(), name)
		if _, _, err := berth(t, lists, "", "snapshot", "-o", file); err != nil {
			t.Fatal(err)
		}
		want, _, _ := berth(t, lists, manifest("2", "15Gi"), ask...)
		got, _, err := berth(t, nil, manifest("2", "15Gi"), append(ask, "--from", file)...)
		if code := ExitCode(err); code != 1 {
			t.Fatalf("%s: status %d: %v", name, code, err)
		}
		if diff := cmp.Diff(of(want)["pods"], of(got)["pods"]); diff != "" {
			t.Errorf("%s (-cluster +file)\n%s", name, diff)
		}
	}
	out, _, err := berth(t, lists, "", "snapshot", "-o", "-")
	if err != nil || strings.Contains(out, "hush") {
		t.Errorf("%v: a secret is in\n%s", err, out)
	}
	for _, kept := range []string{"max-num-batched-tokens=8192", "OLLAMA_NUM_PARALLEL", `value: "4"`, "GPU-a0"} {
		if !strings.Contains(out, kept) {
			t.Errorf("%s is missing in\n%s", kept, out)
		}
	}
}

// TestFilesOfKubectl are read too, and what they lack is told.
func TestFilesOfKubectl(t *testing.T) {
	file := filepath.Join(t.TempDir(), "all.yaml")
	text := "apiVersion: v1\nkind: List\nitems:\n" +
		"- {apiVersion: v1, kind: Node, metadata: {name: gpu-a}, status: {allocatable: {cpu: 8, memory: 64Gi, pods: 110}}}\n" +
		"- {apiVersion: berth.dev/v1alpha1, kind: GPUNode, metadata: {name: gpu-a}, status: {observedTime: 2026-01-01T00:00:00Z, devices: [{uuid: GPU-a0, memory: {total: 80Gi}}]}}\n" +
		"---\n{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: nvidia}, handler: nvidia}\n" +
		"---\n{apiVersion: example.com/v1, kind: Thing, metadata: {name: x}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, notes, err := berth(t, nil, manifest("1", "60Gi"), "what-if", "-f", "-", "--from", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"does not say when", "no configuration", "no Leases", "[Thing]"} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is not said: %s", want, notes)
		}
	}
}

// TestAnotherVersionIsTold: a scheduler of another version may decide otherwise.
func TestAnotherVersionIsTold(t *testing.T) {
	scheduler := running("berth-scheduler-0", "1Gi")
	scheduler.Namespace, scheduler.Labels = berthv1alpha1.Namespace, map[string]string{"app.kubernetes.io/name": "berth-scheduler"}
	for image, want := range map[string]bool{
		"registry.test:5000/berth-scheduler:v9.8.7": true, "registry.test:5000/berth-scheduler": false,
		"registry.test:5000/berth-scheduler:v9.8.7@sha256:00": true, "berth-scheduler:v0.0.0-dev": false,
	} {
		scheduler.Spec.Containers[0].Image = image
		_, notes, err := berth(t, roomy(scheduler), manifest("1", "1Gi"), "what-if", "-f", "-")
		if got := strings.Contains(notes, "version v9.8.7, this program of v0.0.0-dev"); err != nil || got != want {
			t.Errorf("%s: told: %v, want %v, %v\n%s", image, got, want, err, notes)
		}
	}
}

func TestExplain(t *testing.T) {
	waits := bt.MakePod("waits").Memory("60Gi").Obj()
	higher := bt.MakePod("waits").Memory("60Gi").Priority(7).Obj()
	tests := []struct {
		name string
		pods []*corev1.Pod
		args []string
		want []string
	}{
		{
			name: "a pod that lacks memory", pods: []*corev1.Pod{running("low", "60Gi"), waits}, args: []string{"pod/waits"},
			want: []string{"default/waits waits: 0/1 nodes", "It lacks 40.2Gi on GPU 0 of node gpu-a: pod default/low holds 60Gi", "Nothing that is known will give it a place", "Berth"},
		},
		{
			name: "a pod that would evict", pods: []*corev1.Pod{running("low", "60Gi"), higher}, args: []string{"pod/waits"},
			want: []string{"would be placed on node gpu-a after 30s, evicting default/low"},
		},
		{name: "a pod that would be placed", pods: []*corev1.Pod{waits}, args: []string{"pod/waits"}, want: []string{"default/waits would be placed now, on node gpu-a"}},
		{
			name: "a pod that is on a node", pods: []*corev1.Pod{running("low", "60Gi")}, args: []string{"pod/low", "-o", "wide"},
			want: []string{"default/low is on node gpu-a", "it would go to node gpu-a", "79.8Gi of 60Gi free"},
		},
		{name: "for scripts", pods: []*corev1.Pod{running("low", "60Gi"), waits}, args: []string{"pod/waits", "-o", "yaml"}, want: []string{"apiVersion: cli.berth.dev/v1alpha1", "kind: Explanation", "name: low"}},
		{
			name: "a pod of which the size is not known", pods: []*corev1.Pod{bt.MakePod("waits").Model("hf://org/model").Obj()}, args: []string{"pod/waits"},
			want: []string{"default/waits waits: " + string(gpustate.ReasonModelUnknown)},
		},
		{name: "no such pod", args: []string{"pod/nobody"}, want: []string{"there is no pod default/nobody"}},
		{name: "no pod at all", args: []string{"node/gpu-a"}, want: []string{"pod/NAME"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, errOut, err := berth(t, roomy(tt.pods...), "", append([]string{"explain"}, tt.args...)...)
			for _, want := range tt.want {
				if !strings.Contains(out+errOut, want) {
					t.Errorf("want %q in %v\n%s%s", want, err, out, errOut)
				}
			}
		})
	}
}
