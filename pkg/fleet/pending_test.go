// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/fleet"
)

func refused(message string) *corev1.Pod {
	pod := bt.MakePod("p").Obj()
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: message}}
	return pod
}

func TestConditionOf(t *testing.T) {
	tests := []struct {
		name string
		pod  *corev1.Pod
		want fleet.Reason
	}{
		{"a pod without a condition was not tried", bt.MakePod("p").Obj(), fleet.NotTried},
		{"one that has a place has no reason", bt.MakePod("p").Bound("n", epoch).Obj(), fleet.NotTried},
		{"memory is missing", refused("0/2 nodes are available: 2 node(s) didn't have enough free GPU memory. nearest on node a: needs"), fleet.InsufficientMemory},
		{"memory is missing here, and the other node is stale",
			refused("0/2 nodes are available: 1 node(s) had a stale GPUNode report, 1 node(s) didn't have enough free GPU memory."), fleet.InsufficientMemory},
		{"the nodes with GPUs are stale, and others have none",
			refused("0/9 nodes are available: 1 node(s) had a stale GPUNode report, 8 node(s) had no GPUNode report."), fleet.NodesUnusable},
		{"too large for all nodes with GPUs",
			refused("0/9 nodes are available: 1 node(s) didn't have GPUs that could ever hold the requested memory, 8 node(s) had no GPUNode report."), fleet.TooLarge},
		{"another pod loads", refused("0/1 nodes are available: 1 node(s) had a pod still loading on the GPUs."), fleet.Loading},
		{"CPU is missing", refused("0/1 nodes are available: 1 Insufficient cpu."), fleet.Other},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := fleet.ConditionOf(tt.pod); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestEachReasonIsKnown: a sentence that is added must be counted as something.
func TestEachReasonIsKnown(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "gpustate", "reasons.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		n++
		sentence, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		// A group that evicts nobody is told so beside what is missing.
		if got := fleet.ConditionOf(refused(sentence)); got == fleet.Other && spec.Names[0].Name != "ReasonGroupEvictsNobody" {
			t.Errorf("%s counts as %v", spec.Names[0].Name, got)
		}
		return true
	})
	if n < 25 {
		t.Errorf("only %d reasons were found", n)
	}
}

func TestPendingByReasonAndAge(t *testing.T) {
	w := newWorld(t)
	add := func(reason fleet.Reason, age time.Duration) {
		w.cluster.Waiting = append(w.cluster.Waiting, fleet.Waiting{Created: epoch.Add(-age), Reason: reason})
	}
	add(fleet.Loading, -time.Second) // by a clock that is ahead
	add(fleet.Loading, 59*time.Second)
	add(fleet.Loading, time.Minute)
	add(fleet.Loading, 59*time.Minute)
	add(fleet.Loading, time.Hour)
	add(fleet.Loading, 100*time.Hour)
	add(fleet.Other, 100*time.Hour)
	n := w.measure()
	if got, want := n.Pending[fleet.Loading], [...]int{2, 1, 1, 2}; got != want {
		t.Errorf("loading by age: %v, want %v", got, want)
	}
	if got, want := n.Pending[fleet.Other], [...]int{0, 0, 0, 1}; got != want {
		t.Errorf("other by age: %v, want %v", got, want)
	}
	for i, age := range fleet.Ages {
		if named, err := time.ParseDuration(fleet.AgeName(i)); err != nil || named != age {
			t.Errorf("%s is called %s", age, fleet.AgeName(i))
		}
	}
}
