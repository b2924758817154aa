// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/cli/usage"
)

// used is roomy with a pod of a Deployment that books 60Gi and holds 20Gi.
func used() map[string]any {
	owned := func(kind, name string) []metav1.OwnerReference {
		return []metav1.OwnerReference{{Kind: kind, Name: name, UID: types.UID(name), Controller: ptr.To(true)}}
	}
	pod := running("chat-abc-1", "60Gi")
	pod.OwnerReferences = owned("ReplicaSet", "chat-abc")
	lists := roomy(pod)
	lists["/api/v1/namespaces/default/pods"] = lists[podsPath]
	reports := lists[gpuNodesPath].(berthv1alpha1.GPUNodeList)
	reports.Items = []berthv1alpha1.GPUNode{*bt.MakeGPUNode("gpu-a").GPU("GPU-a0", "80Gi").Active(pod.UID, "20Gi").Obj()}
	lists[gpuNodesPath] = reports
	meta := func(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "apps/v1", Kind: kind} }
	lists["/apis/apps/v1/replicasets"] = appsv1.ReplicaSetList{TypeMeta: meta("ReplicaSetList"), Items: []appsv1.ReplicaSet{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "chat-abc", UID: "chat-abc", OwnerReferences: owned("Deployment", "chat")},
	}}}
	lists["/apis/apps/v1/deployments"] = appsv1.DeploymentList{TypeMeta: meta("DeploymentList")}
	lists["/apis/apps/v1/statefulsets"] = appsv1.StatefulSetList{TypeMeta: meta("StatefulSetList")}
	lists["/apis/batch/v1/jobs"] = batchv1.JobList{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "JobList"}}
	return lists
}

func TestTopBy(t *testing.T) {
	without := func(paths ...string) map[string]any {
		lists := maps.Clone(used())
		for _, path := range paths {
			delete(lists, path)
		}
		return lists
	}
	for name, tt := range map[string]struct {
		lists map[string]any
		args  []string
		want  []string // in the output, in columns of one space
		not   string
	}{
		"by namespace":             {used(), []string{"--by", "namespace"}, []string{"default 1 1 60Gi 20Gi 0", "(total) 1 1 60Gi 20Gi 0", "it names no model"}, "counted"},
		"by owner":                 {used(), []string{"--by", "owner"}, []string{"default/Deployment/chat 1 1 60Gi"}, "Not all ReplicaSets"},
		"a table may be asked for": {used(), []string{"--by", "model", "-o", "table"}, []string{"(none) 1 1 60Gi"}, ""},
		"one namespace":            {used(), []string{"--by", "owner", "-n", "default"}, []string{"default/ReplicaSet/chat-abc 1 1 60Gi", "Not all ReplicaSets could be read"}, "Pods of all namespaces"},
		"a user who may read one namespace": {
			without(podsPath, nodesPath, gpuNodesPath, profilesPath, leasesPath, configMapsPath), []string{"--by", "namespace"},
			[]string{
				"default 1 1 60Gi - 0", "only those of namespace default are counted; name another by -n", "GPUNodes could not be read", "Nodes could not be read",
				"ModelProfiles could not be read",
			}, "hold 0",
		},
		"a user who may read one namespace and all reports": {
			without(podsPath, nodesPath), []string{"--by", "node-pool"},
			[]string{"(none) 1 1 60Gi 20Gi 0 79.8Gi", "Nodes could not be read", "only those of namespace default"}, "GPUNodes could not",
		},
		"on one node": {used(), []string{"--by", "namespace", "gpu-a"}, []string{"default 1 1 60Gi 20Gi 0"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			out, _, err := berth(t, tt.lists, "", append([]string{"top"}, tt.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			var columns []string
			for line := range strings.Lines(out) {
				columns = append(columns, strings.Join(strings.Fields(line), " "))
			}
			text := strings.Join(columns, "\n")
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("want %q in\n%s", want, out)
				}
			}
			if tt.not != "" && strings.Contains(text, tt.not) {
				t.Errorf("%q is in\n%s", tt.not, out)
			}
		})
	}
}

func TestTopByForScripts(t *testing.T) {
	out, _, err := berth(t, used(), "", "top", "--by", "namespace", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var u usage.Usage
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&u); err != nil {
		t.Fatal(err)
	}
	if u.APIVersion != "cli.berth.dev/v1alpha1" || u.Kind != usage.Kind || len(u.Rows) != 1 || u.Rows[0].Booked != 60<<30 || u.Total.Measured != 20<<30 {
		t.Errorf("got %s", out)
	}
	out, notes, err := berth(t, used(), "", "top", "--by", "namespace", "-o", "csv")
	if err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(records) != 3 || records[0][0] != "namespace" || records[1][0] != "default" || records[2][0] != "(total)" {
		t.Errorf("error %v, got\n%s", err, out)
	}
	if !strings.Contains(notes, "ResourceSlices") {
		t.Errorf("what is missing is not told beside the CSV: %q", notes)
	}
}

// TestTopFromAFile: what is asked of a cluster can be asked of a snapshot of it.
func TestTopFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cluster.json.gz")
	if _, _, err := berth(t, used(), "", "snapshot", "-o", file); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"who uses what":          {[]string{"--by", "owner"}, "default/Deployment/chat"},
		"of a namespace":         {[]string{"--by", "namespace", "-n", "other"}, "(total)    0"},
		"a map of the GPUs":      {nil, "default/chat-abc-1 60Gi"},
		"and as it was measured": {[]string{"-o", "json"}, `"measured": 21474836480`},
	} {
		t.Run(name, func(t *testing.T) {
			out, _, err := berth(t, nil, "", append([]string{"top", "--from", file}, tt.args...)...)
			if err != nil || !strings.Contains(out, tt.want) {
				t.Errorf("error %v, want %q in\n%s", err, tt.want, out)
			}
		})
	}
}

func TestTopFlagsThatDoNotGoTogether(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"an unknown format of a table":           {[]string{"--by", "namespace", "-o", "yaml"}, "use table, json or csv"},
		"wide is for the map":                    {[]string{"--by", "namespace", "-o", "wide"}, "use table, json or csv"},
		"csv is for a table":                     {[]string{"-o", "csv"}, "such as --by namespace"},
		"no grouping":                            {[]string{"--by", ""}, "namespace, model, owner, node-pool"},
		"what cannot be a label":                 {[]string{"--by", "a b"}, "the key of a label"},
		"a namespace without a table":            {[]string{"-n", "default"}, "is for --by"},
		"a namespace whose pods may not be read": {[]string{"--by", "model", "-n", "secret"}, "you may read by -n"},
		"a file that would not change":           {[]string{"--from", "f", "--watch"}, "does not change"},
		"a file that is not there":               {[]string{"--from", "/no/such/file", "--by", "model"}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := berth(t, used(), "", append([]string{"top"}, tt.args...)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTopCompletes(t *testing.T) {
	for want, args := range map[string][]string{
		"namespace model owner node-pool": {"--by", ""},
		"table json csv":                  {"--by", "model", "-o", ""},
		"json wide":                       {"-o", ""},
	} {
		var out bytes.Buffer
		command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &bytes.Buffer{}})
		command.SetArgs(append([]string{"__complete", "top"}, args...))
		err := command.ExecuteContext(t.Context())
		got := strings.Fields(out.String())
		if i := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, ":") }); i >= 0 {
			got = got[:i]
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, error %v, want %q", args, got, err, want)
		}
	}
}
