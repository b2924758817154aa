// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeTrace writes the lists of a trace of three nodes.
func writeTrace(t *testing.T) (nodes, pods string) {
	t.Helper()
	write := func(name, text string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	var list strings.Builder
	list.WriteString("name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time\n")
	for i := range 10 {
		fmt.Fprintf(&list, "p%d,1000,1024,1,%d00,,%d,%d\n", i, i%9+1, i, 100+i)
	}
	return write("nodes.csv", "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,T4\nb,64000,262144,1,P100\nc,8000,262144,1,T4\n"), write("pods.csv", list.String())
}

func TestReplay(t *testing.T) {
	nodes, pods := writeTrace(t)
	svg := filepath.Join(t.TempDir(), "r.svg")
	given := []string{"replay", "--nodes", nodes, "--pods", pods}
	tests := []struct {
		name string
		args []string
		want []string
		err  string
	}{
		{name: "FGD beside the default strategy", want: []string{"3 nodes, 4 GPUs, a list of 10 pods, 130% of the GPUs asked for, 10 seeds", "FGD ", "MostAllocated "}},
		{name: "what is chosen", args: []string{"--strategy", "Random,Fragmentation+defaults", "--seeds", "1", "--arrive", "90%", "--shuffle-nodes", "--parallel", "1"},
			want: []string{"90% of the GPUs asked for, 1 seed, nodes shuffled by the seed", "Random ", "Fragmentation+defaults "}},
		{name: "times", args: []string{"--times"}, want: []string{"3 nodes, 4 GPUs, pods created and deleted at their times, nodes in the order of the list", "NEVER RAN"}},
		{name: "a drawing", args: []string{"--svg", svg, "--seeds", "1"}, want: []string{"FGD "}},
		{name: "an unknown strategy", args: []string{"--strategy", "Best"}, err: `strategy "Best" is not known: use some of FGD, BestFit, Random, MostAllocated`},
		{name: "no part", args: []string{"--arrive", "all"}, err: "--arrive=all is no part of the GPUs from 1% to 1000%: write it as 130%"},
		{name: "no seeds", args: []string{"--seeds", "0"}, err: "--seeds=0 is too few"},
		{name: "no runs at once", args: []string{"--parallel", "-1"}, err: "--parallel=-1 is too few"},
		{name: "another format", args: []string{"-o", "yaml"}, err: "--output=yaml is not known: use json"},
		{name: "times have no curve", args: []string{"--times", "--svg", svg}, err: "leave one of them out"},
		{name: "with times all arrive once", args: []string{"--times", "--arrive", "130%"}, err: "leave --arrive out"},
		{name: "the lists the wrong way round", args: []string{"--nodes", pods}, err: `--nodes: ` + pods + `: the first line names no column "sn"`},
		{name: "a list that is not there", args: []string{"--pods", "none.csv"}, err: "--pods: open none.csv"},
		{name: "no lists", args: []string{"--nodes", ""}, err: "--nodes and --pods are needed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, _, err := berth(t, nil, "", append(given, tt.args...)...)
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("want %q in\n%s", want, out)
				}
			}
		})
	}
	if text, err := os.ReadFile(svg); err != nil || !strings.HasPrefix(string(text), "<svg ") {
		t.Errorf("%v, %.40s", err, text)
	}
}

// TestReplayAsJSON has the fields that others read, fractions from 0 to 1.
func TestReplayAsJSON(t *testing.T) {
	nodes, pods := writeTrace(t)
	out, _, err := berth(t, nil, "", "replay", "--nodes", nodes, "--pods", pods, "--seeds", "2", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	runs, _ := got["runs"].([]any)
	if got["apiVersion"] != "cli.berth.dev/v1alpha1" || got["kind"] != "Replay" || len(runs) != 4 {
		t.Fatalf("got\n%s", out)
	}
	for i, r := range runs {
		run := r.(map[string]any)
		if want := []string{"FGD", "MostAllocated"}[i/2]; run["strategy"] != want || run["seed"] != float64(i%2+1) {
			t.Errorf("run %d is %v %v", i, run["strategy"], run["seed"])
		}
		curve, _ := run["curve"].([]any)
		last, _ := curve[len(curve)-1].(map[string]any)
		if arrived := run["arrived"].(float64); arrived < 1.3 || arrived > 1.6 || run["failed"].(float64) == 0 || len(curve) < 5 {
			t.Errorf("run %d: %v", i, run)
		}
		for _, field := range []string{"allocated", "fragmentation"} {
			first, _ := curve[0].(map[string]any)
			if v := run[field].(float64); v < 0 || v > 1 || v != last[field] || first[field] == float64(0) {
				t.Errorf("run %d: %s is %v, at the end of the curve %v", i, field, v, last[field])
			}
		}
	}
}
