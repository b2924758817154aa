// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/cli/plan"
)

// planned runs kubectl berth plan where no cluster is.
func planned(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	var out, errOut bytes.Buffer
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &out, ErrOut: &errOut})
	command.SetArgs(append([]string{"plan"}, args...))
	err = command.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

// answerOf runs it, and reads its JSON.
func answerOf(t *testing.T, stdin string, args ...string) (a plan.Answer) {
	t.Helper()
	out, errOut, err := planned(t, stdin, append(args, "-f", "-", "-o", "json")...)
	if err != nil {
		t.Fatalf("%v\n%s%s\n%s", err, out, errOut, stdin)
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestPlan(t *testing.T) {
	config, _ := files(t)
	tests := []struct {
		name  string
		stdin string
		args  []string
		code  int
		want  string
	}{
		{name: "a Deployment", stdin: manifest("3", "60Gi"), args: []string{"--node-shape", "h100-80x2"}, want: "2 nodes for 3 pods: fewer nodes are proven not to be enough"},
		{name: "a list of models", stdin: "models: [{name: a, gpuMemory: 60Gi, replicas: 3}]", args: []string{"--node-shape", "h100x2"}, want: "2 nodes for 3 pods"},
		{name: "a model of a file", stdin: "models: [{model: " + config + ", contextLength: 8192}]", args: []string{"--node-shape", "l4x1"}, want: "1 node for 1 pod"},
		{name: "a source whose file is given", stdin: "models: [{model: hf://meta/llama, contextLength: 8192}]", args: []string{"--node-shape", "l4x1", "--model", "hf://meta/llama=" + config}, want: "1 node for 1 pod"},
		{name: "a pod that is too large for any node", stdin: manifest("1", "90Gi"), args: []string{"--node-shape", "h100x2"}, code: 1, want: "default/chat-0 would wait even if it were alone"},
		{name: "CPUs bind", stdin: "models: [{name: a, gpuMemory: 1Gi, cpu: 6, replicas: 3}]", args: []string{"--node-shape", "l4x1:cpu=10"}, want: "What binds: CPU. With 2 × l4-24x1, 1 pod stays pending"},
		{name: "host memory binds", stdin: "models: [{name: a, gpuMemory: 1Gi, memory: 6Gi, replicas: 3}]", args: []string{"--node-shape", "l4x1:memory=10Gi"}, want: "What binds: host memory."},
		{name: "pods of a node bind", stdin: "models: [{name: a, gpuMemory: 64Mi, replicas: 111}]", args: []string{"--node-shape", "l4x8"}, want: "What binds: pods that a node takes."},
		{name: "CPUs that are not limited are told", stdin: "models: [{name: a, gpuMemory: 1Gi, cpu: 6}]", args: []string{"--node-shape", "l4x1"}, want: "l4-24x1:cpu=208"},
		{name: "a node may be lost", stdin: manifest("2", "60Gi"), args: []string{"--node-shape", "h100x2", "--survive-nodes", "1"}, want: "2 nodes for 2 pods"},
		{name: "two nodes may be lost", stdin: manifest("2", "60Gi"), args: []string{"--node-shape", "h100x1", "--survive-nodes", "2"}, want: "4 nodes for 2 pods"},
		{name: "some memory is spare", stdin: manifest("2", "60Gi"), args: []string{"--node-shape", "h100x2", "--spare", "10%"}, want: "What binds: spare GPU memory."},
		{name: "engines that load spread at once", stdin: "models: [{name: v, gpuMemory: 30Gi, runtime: vllm, replicas: 2, gpuCount: 1}, {name: a, gpuMemory: 70Gi}]", args: []string{"--node-shape", "h100x2"}, want: "1 node for 3 pods: fewer nodes are proven not to be enough.\nCreate the pods one after the other"},
		{name: "an order that needs more", stdin: "models: [{name: a, gpuMemory: 30Gi, replicas: 2}, {name: b, gpuMemory: 48Gi, replicas: 2}]", args: []string{"--node-shape", "h100x1"}, want: "2 × h100-80x1 would be enough if the largest pods were created first"},
		{name: "pods that select a label", stdin: strings.Replace(manifest("1", "60Gi"), "schedulerName", "nodeSelector: {pool: a}, schedulerName", 1), args: []string{"--node-shape", "h100x1", "--node-labels", "pool=a"}, want: "1 node for 1 pod"},
		{name: "no pod may be evicted", stdin: strings.Replace(manifest("1", "60Gi"), "schedulerName", "priorityClassName: berth-batch, schedulerName", 1) + "\n---\n" +
			strings.Replace(strings.Replace(manifest("1", "60Gi"), "schedulerName", "priorityClassName: berth-interactive, schedulerName", 1), "name: chat", "name: first", 1), args: []string{"--node-shape", "h100x1"}, want: "2 nodes for 2 pods"},

		{name: "no shape", stdin: manifest("1", "60Gi"), code: 2, want: "such as h100-80x8"},
		{name: "an unknown GPU", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "h900x8"}, code: 2, want: "use one of B200-180"},
		{name: "a GPU of which there are two", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "a100x8"}, code: 2, want: "A100-80, A100-40"},
		{name: "a shape twice", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "l4x1,l4x1"}, code: 2, want: "named twice"},
		{name: "a price for some", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "l4x1@1,l4x2"}, code: 2, want: "give all of them one, or none"},
		{name: "a price of nonsense", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "l4x1@cheap"}, code: 2, want: `"cheap" is no price`},
		{name: "memory of 768 bytes", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "l4x1:memory=768"}, code: 2, want: "did you mean 768Gi?"},
		{name: "an unknown resource", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "l4x1:disk=1Ti"}, code: 2, want: "cpu=208:memory=2Ti@98.32"},
		{name: "no manifest", args: []string{"--node-shape", "l4x1"}, code: 2, want: "by -f"},
		{name: "a field that lists do not have", stdin: "models: [{name: a, gpuMem: 1Gi}]", args: []string{"--node-shape", "l4x1"}, code: 2, want: `unknown field "gpuMem"`},
		{name: "a model without anything", stdin: "models: [{name: a}]", args: []string{"--node-shape", "l4x1"}, code: 2, want: "neither model nor gpuMemory"},
		{name: "a name twice", stdin: "models: [{name: a, gpuMemory: 1Gi}, {name: a, gpuMemory: 1Gi}]", args: []string{"--node-shape", "l4x1"}, code: 2, want: "used twice"},
		{name: "a wrong request", stdin: "models: [{name: a, gpuMemory: 30}]", args: []string{"--node-shape", "l4x1"}, code: 2, want: "30Gi"},
		{name: "a file that is not there", stdin: "models: [{model: absent.gguf}]", args: []string{"--node-shape", "l4x1"}, code: 2, want: "neither a source, such as hf://ORG/REPO, nor a file"},
		{name: "a model that nobody names", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "l4x1", "--model", "hf://a/b=" + config}, code: 2, want: "no pod names this model"},
		{name: "half a model", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "l4x1", "--model", "hf://a/b"}, code: 2, want: "SOURCE=PATH"},
		{name: "spare memory of nonsense", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "l4x1", "--spare", "10"}, code: 2, want: "write it as 10%"},
		{name: "an output of nonsense", stdin: manifest("1", "60Gi"), args: []string{"--node-shape", "l4x1", "-o", "yaml"}, code: 2, want: "use json"},
		{name: "a pod of another scheduler", stdin: "{apiVersion: v1, kind: Pod, metadata: {name: s}, spec: {containers: [{name: c, image: i}]}}", args: []string{"--node-shape", "l4x1"}, code: 2, want: `its schedulerName is "default-scheduler"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if tt.stdin != "" {
				args = append(args, "-f", "-")
			}
			out, errOut, err := planned(t, tt.stdin, args...)
			if code := ExitCode(err); code != tt.code {
				t.Errorf("status %d, want %d: %v\n%s", code, tt.code, err, out)
			}
			if text := out + errOut; !strings.Contains(text, tt.want) {
				t.Errorf("want %q in\n%s", tt.want, text)
			}
		})
	}
}

// TestPlanJSON has the contract of the JSON form.
func TestPlanJSON(t *testing.T) {
	a := answerOf(t, "models: [{name: a, gpuMemory: 60Gi, replicas: 2, cpu: 2}]", "--node-shape", "h100x2:cpu=8@50,l40sx4:cpu=8@1")
	const gpu = (81559 - 512 - 256) << 20
	if len(a.Pods) != 2 || a.Pods[0].Node != "h100-80x2-0" || a.Pods[0].Devices[0].Memory != 60<<30 {
		t.Errorf("%+v", a.Pods)
	}
	a.Pods, a.Binds, a.OneFewer = nil, nil, ""
	price := 50.0
	want := plan.Answer{
		Enough: true, Nodes: 1, Price: &price, AtLeast: []plan.ShapeNodes{{Shape: "h100-80x2", Nodes: 1}}, Proven: true,
		Shapes: []plan.ShapeNodes{{
			Shape: "h100-80x2", Nodes: 1, GPUs: 2, GPUsUsed: 2, GPUMemory: 2 * gpu, Booked: 120 << 30, InPieces: 2*gpu - 120<<30, CPU: 8000, CPURequested: 4000,
		}},
	}
	want.APIVersion, want.Kind = "cli.berth.dev/v1alpha1", "Plan"
	got, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(wanted), string(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// fewestGPUs is how few GPUs of a size hold memory in whole GiB, found by trying everything.
func fewestGPUs(sizes []int, room int) int {
	best := len(sizes)
	var try func(at int, free []int)
	try = func(at int, free []int) {
		if len(free) >= best {
			return
		}
		if at == len(sizes) {
			best = len(free)
			return
		}
		for i := range free {
			if free[i] >= sizes[at] {
				free[i] -= sizes[at]
				try(at+1, free)
				free[i] += sizes[at]
			}
		}
		try(at+1, append(slices.Clone(free), room-sizes[at]))
	}
	try(0, nil)
	return best
}

// TestPlansAreTheFewest compares plans with trying everything, for pods of one GPU each.
func TestPlansAreTheFewest(t *testing.T) {
	proven := 0
	const cases = 40
	for seed := range uint64(cases) {
		r := rand.New(rand.NewPCG(seed, 3))
		list, sizes := "models:\n", []int(nil)
		for i := range 1 + r.IntN(4) {
			size, replicas := 8+r.IntN(60), 1+r.IntN(3)
			list += fmt.Sprintf("- {name: m%d, gpuMemory: %dGi, replicas: %d}\n", i, size, replicas)
			sizes = append(sizes, slices.Repeat([]int{size}, replicas)...)
		}
		gpus := 1 + r.IntN(4)
		fewest := (fewestGPUs(sizes, 78) + gpus - 1) / gpus // 78.9 GiB can be booked of each
		a := answerOf(t, list, "--node-shape", fmt.Sprintf("h100x%d", gpus))
		switch {
		case a.Nodes < fewest || a.AtLeast[0].Nodes > fewest:
			t.Errorf("seed %d: %d nodes, at least %d; by trying everything %d\n%s", seed, a.Nodes, a.AtLeast[0].Nodes, fewest, list)
		case a.Proven != (a.Nodes == fewest):
			t.Errorf("seed %d: %d nodes, proven %v; by trying everything %d\n%s", seed, a.Nodes, a.Proven, fewest, list)
		}
		if a.Proven {
			proven++
		}
	}
	t.Logf("%d of %d are proven", proven, cases)
	if proven < cases*3/4 {
		t.Errorf("only %d of %d are proven", proven, cases)
	}
}

// envUpdate has the page written anew with what the commands print.
const envUpdate = "BERTH_UPDATE_DOCS"

// pageCommands are the commands of the page, with what they print.
var pageCommands = regexp.MustCompile("(?m)^```\n\\$ kubectl berth plan ([^\n]*)\n((?:[^`][^\n]*\n|\n)*)```")

// TestHowManyNodes runs the commands of the page on the files of the page.
func TestHowManyNodes(t *testing.T) {
	file, err := filepath.Abs(filepath.Join("..", "..", "docs", "how-many-nodes.md"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if names := bt.WriteFilesOf(t, page, "."); len(names) < 4 {
		t.Fatalf("the page has the files %q", names)
	}
	commands := 0
	now := pageCommands.ReplaceAllStringFunc(string(page), func(block string) string {
		commands++
		parts := pageCommands.FindStringSubmatch(block)
		out, notes, err := planned(t, "", strings.Fields(parts[1])...)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(parts[2], notes+out); diff != "" && os.Getenv(envUpdate) == "" {
			t.Errorf("%s (-page +now; %s=1 writes the page)\n%s", parts[1], envUpdate, diff)
		}
		return "```\n$ kubectl berth plan " + parts[1] + "\n" + notes + out + "```"
	})
	if commands < 3 {
		t.Errorf("the page has %d commands", commands)
	}
	if os.Getenv(envUpdate) != "" {
		if err := os.WriteFile(file, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
