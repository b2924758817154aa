// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/replay/fgd"
)

func TestReadNodes(t *testing.T) {
	const header = "sn,cpu_milli,memory_mib,gpu,model\n"
	a := Node{Name: "a", CPU: 64000, Memory: 262144, GPUs: 2, Model: "P100"}
	tests := []struct {
		name, text string
		want       []Node
		err        string
	}{
		{name: "as published", text: header + "a,64000,262144,2,P100\n", want: []Node{a}},
		{name: "columns in another order, more of them, and a mark of the encoding", text: "\ufeffmodel,gpu,rack,memory_mib,sn,cpu_milli\nP100,2,r1,262144,a,64000\n", want: []Node{a}},
		{name: "numbers as a table of floats writes them", text: header + "a,64000.0,262144.0,2,P100\n", want: []Node{a}},
		{name: "a node without GPUs", text: header + "a,64000,262144,2,P100\nb,1000,1,0,\n", want: []Node{a, {Name: "b", CPU: 1000, Memory: 1}}},
		{name: "nothing", text: "", err: "n.csv is empty: its first line has to name the columns sn, cpu_milli, memory_mib, gpu, model"},
		{name: "a list of pods", text: "name,cpu_milli\n", err: `n.csv: the first line names no column "sn", but name, cpu_milli`},
		{name: "no number", text: header + "a,64000,262144,2,P100\nb,many,262144,2,P100\n", err: `n.csv:3:3: cpu_milli: "many" is no whole number`},
		{name: "a negative number", text: header + "a,64000,-1,2,P100\n", err: `n.csv:2:9: memory_mib: "-1" is no whole number from 0`},
		{name: "more GPUs than a node has", text: header + "a,1,1,65,P100\n", err: `n.csv:2:7: gpu: "65" is no whole number from 0 to 64`},
		{name: "a name that is there twice", text: header + "a,1,1,1,T4\na,1,1,1,T4\n", err: `n.csv:3:1: sn: "a" was there before`},
		{name: "no name", text: header + ",1,1,1,T4\n", err: `n.csv:2:1: sn: it is empty`},
		{name: "a short row", text: header + "a,1,1\n", err: "n.csv: record on line 2: wrong number of fields"},
		{name: "no GPU at all", text: header + "a,1,1,0,\n", err: "no node has a GPU"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadNodes("n.csv", strings.NewReader(tt.text))
			checkRead(t, tt.want, got, tt.err, err)
		})
	}
}

func checkRead(t *testing.T, want, got any, wantErr string, err error) {
	t.Helper()
	if wantErr != "" {
		if err == nil || !strings.Contains(err.Error(), wantErr) {
			t.Fatalf("error %v, want one that says %q", err, wantErr)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadPods(t *testing.T) {
	const header = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time\n"
	share := Pod{Name: "p", Memory: 12288, Request: fgd.Request{CPU: 6000, GPUs: 1, Milli: 460}}
	limited := share
	limited.Models, limited.Created, limited.Deleted = "V100M16|V100M32", 5, 7
	tests := []struct {
		name, text string
		want       []Pod
		hasTimes   bool
		err        string
	}{
		{name: "without times and models", text: "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,6000,12288,1,460\n", want: []Pod{share}},
		{name: "with them", text: header + "p,6000,12288,1,460,V100M32|V100M16,5,7\n", want: []Pod{limited}, hasTimes: true},
		{name: "a time is missing", text: header + "p,6000,12288,1,460,,,\n", want: []Pod{share}},
		{name: "a pod without GPUs, whose milli are of no matter", text: header + "p,6000,12288,1,460,,,\nq,1,2,0,0,,,\n", want: []Pod{share, {Name: "q", Memory: 2, Request: fgd.Request{CPU: 1}}}},
		{name: "GPUs of which nothing is asked", text: header + "p,6000,12288,1,0,,,\n", err: "p.csv:2:16: gpu_milli: it is 0, and num_gpu is 1"},
		{name: "more than a GPU of each", text: header + "p,6000,12288,1,1001,,,\n", err: `p.csv:2:16: gpu_milli: "1001" is no whole number from 0 to 1000`},
		{name: "deleted before it was created", text: header + "p,6000,12288,1,460,,7,5\n", err: "p.csv:2:23: deletion_time: it is before creation_time, 7"},
		{name: "nobody asks for a GPU", text: header + "p,6000,12288,0,0,,,\n", err: "no pod asks for a GPU"},
		{name: "a list of nodes", text: "sn,cpu_milli,memory_mib,gpu,model\n", err: `names no column "name"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, hasTimes, err := ReadPods("p.csv", strings.NewReader(tt.text))
			checkRead(t, tt.want, got, tt.err, err)
			if hasTimes != tt.hasTimes {
				t.Errorf("has times: %v", hasTimes)
			}
		})
	}
}
