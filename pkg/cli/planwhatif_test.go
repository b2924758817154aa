// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/cli/plan"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
)

// TestWhatIfConfirmsPlans: on a cluster of as many nodes as are planned what-if places all pods, and with one fewer it does not.
func TestWhatIfConfirmsPlans(t *testing.T) {
	for name, tt := range map[string]struct{ list, shapes string }{
		"GPU memory binds":     {"models: [{name: a, gpuMemory: 50Gi, replicas: 5}, {name: b, gpuMemory: 100Gi, gpuCount: 2}]", "h100x2"},
		"CPUs bind":            {"models: [{name: a, gpuMemory: 5Gi, cpu: 6, replicas: 5}]", "l4x4:cpu=16:memory=64Gi"},
		"two shapes, by price": {"models: [{name: a, gpuMemory: 30Gi, replicas: 3}, {name: b, gpuMemory: 10Gi, replicas: 9}]", "l40sx2@9,l4x4@4"},
	} {
		t.Run(name, func(t *testing.T) {
			a := answerOf(t, tt.list, "--node-shape", tt.shapes)
			if !a.Proven || a.AtOnce != "" {
				t.Fatalf("%+v", a)
			}
			for without, want := range map[int]int{0: 0, 1: 1} {
				file := filepath.Join(t.TempDir(), "cluster.json")
				writeCluster(t, file, tt.shapes, a.Shapes, without)
				out, errOut, err := berth(t, nil, tt.list, "what-if", "-f", "-", "--from", file)
				if got := ExitCode(err); got != want {
					t.Errorf("without %d of %d nodes: status %d, want %d\n%s%s", without, a.Nodes, got, want, out, errOut)
				}
			}
		})
	}
}

// writeCluster writes a cluster of planned nodes, without the last ones, as kubectl get does.
func writeCluster(t *testing.T, file, flag string, planned []plan.ShapeNodes, without int) {
	t.Helper()
	shapes, err := plan.ParseShapes([]string{flag})
	if err != nil {
		t.Fatal(err)
	}
	s := &simulator.Snapshot{Time: time.Now()}
	for _, p := range planned {
		for i := range shapes {
			if shapes[i].Name != p.Shape {
				continue
			}
			like := bt.MakeNode("like")
			if !shapes[i].CPU.IsZero() {
				like.Status.Allocatable[corev1.ResourceCPU], like.Status.Allocatable[corev1.ResourceMemory] = shapes[i].CPU, shapes[i].Memory
			}
			for n := range p.Nodes {
				s.AddNode(p.Shape+strings.Repeat("-n", n+1), like, &berthv1alpha1.GPUNodeStatus{}, shapes[i].Shape)
			}
		}
	}
	items := []any{&nodev1.RuntimeClass{
		TypeMeta: metav1.TypeMeta{APIVersion: "node.k8s.io/v1", Kind: "RuntimeClass"}, ObjectMeta: metav1.ObjectMeta{Name: "nvidia"}, Handler: "nvidia",
	}}
	const perNode = 3 // a Node, its GPUNode and its Lease
	for _, object := range s.Objects[:len(s.Objects)-perNode*without] {
		switch o := object.(type) {
		case *corev1.Node:
			o.APIVersion, o.Kind = "v1", "Node"
			items = append(items, o)
		case *gpunode.Object:
			items = append(items, &berthv1alpha1.GPUNode{
				TypeMeta:   metav1.TypeMeta{APIVersion: berthv1alpha1.GroupVersion.String(), Kind: "GPUNode"},
				ObjectMeta: metav1.ObjectMeta{Name: o.Name}, Status: *o.Status,
			})
		}
	}
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
