// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
)

// TestNodesAndTheirGPUsAreCompleted: kubectl runs __complete with the words of the line, of which the last is being typed.
func TestNodesAndTheirGPUsAreCompleted(t *testing.T) {
	gn := bt.MakeGPUNodeOf("gpu-a", 2, "80Gi").Instance("MIG-a", "GPU-1", "10Gi").Obj()
	gn.TypeMeta = metav1.TypeMeta{APIVersion: berthv1alpha1.GroupVersion.String(), Kind: "GPUNode"}
	node := bt.MakeNode("gpu-a")
	node.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}
	node.Annotations = map[string]string{berthv1alpha1.AnnotationCordonedGPUs: "GPU-1,GPU-of-yore"}
	lists := roomy()
	lists[gpuNodesPath+"/gpu-a"], lists[nodesPath+"/gpu-a"] = gn, node
	const noFiles, oneOfSeveral = ":4", ":6" // directives of cobra
	for _, tt := range []struct {
		name, line string
		want       []string
	}{
		{"nodes with GPUs", "cordon ", []string{"gpu-a", noFiles}},
		{"of one node", "drain gpu-a ", []string{noFiles}},
		{"GPUs by index and by UUID, an instance by its UUID alone", "cordon gpu-a --gpu ",
			[]string{"0\tGPU-0", "GPU-0\tGPU 0 (GPU-0)", "1\tGPU-1", "GPU-1\tGPU 1 (GPU-1)", "MIG-a\tGPU 1 (MIG-a)", oneOfSeveral}},
		{"one more, whichever way the first is named", "drain gpu-a --gpu 0,GPU-1,", []string{"0,GPU-1,MIG-a\tGPU 1 (MIG-a)", oneOfSeveral}},
		{"what is cordoned, be it there or not", "uncordon gpu-a --gpu ",
			[]string{"1\tGPU-1", "GPU-1\tGPU 1 (GPU-1)", "GPU-of-yore\tGPU GPU-of-yore", oneOfSeveral}},
		{"no GPU before there is a node", "cordon --gpu ", []string{"_activeHelp_ Name the node first", noFiles}},
		{"of a node that is not there", "cordon gpu-z --gpu ", []string{":1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			words := strings.Split(tt.line, " ")
			out := completed(t, lists, append([]string{"__complete"}, words[:len(words)-1]...), words[len(words)-1])
			if diff := cmp.Diff(tt.want, out); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// completed runs kubectl berth against an API with some words, and one that is being typed, and returns the lines of its answer.
func completed(t *testing.T, lists map[string]any, words []string, typed string) []string {
	t.Helper()
	server := httptest.NewServer(&api{lists: lists})
	defer server.Close()
	var out bytes.Buffer
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &bytes.Buffer{}})
	// Flags may stand anywhere but between --gpu and its value.
	command.SetArgs(slices.Concat(words[:2], []string{"--server", server.URL}, words[2:], []string{typed}))
	if err := command.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}
