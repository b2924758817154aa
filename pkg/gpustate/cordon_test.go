// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

func TestCordonedGPUsGetNoPods(t *testing.T) {
	tests := []struct {
		name, annotation string
		report           *bt.GPUNode
		want             map[string]alloc.Reason
		unknown          []string
	}{
		{
			name: "one of two", annotation: "GPU-1", report: bt.MakeGPUNodeOf("a", 2, "80Gi"),
			want: map[string]alloc.Reason{"GPU-0": "", "GPU-1": alloc.ReasonCordoned},
		},
		{
			name: "spaces and commas too many are nothing", annotation: " GPU-0 ,, GPU-1,", report: bt.MakeGPUNodeOf("a", 2, "80Gi"),
			want: map[string]alloc.Reason{"GPU-0": alloc.ReasonCordoned, "GPU-1": alloc.ReasonCordoned},
		},
		{
			name: "one that is not there", annotation: "GPU-9,GPU-0", report: bt.MakeGPUNodeOf("a", 1, "80Gi"),
			want: map[string]alloc.Reason{"GPU-0": alloc.ReasonCordoned}, unknown: []string{"GPU-9"},
		},
		{
			name: "an index is no name", annotation: "0", report: bt.MakeGPUNodeOf("a", 1, "80Gi"),
			want: map[string]alloc.Reason{"GPU-0": ""}, unknown: []string{"0"},
		},
		{
			name: "a GPU stands for its instances", annotation: "GPU-0",
			report: bt.MakeGPUNodeOf("a", 2, "80Gi").Instance("MIG-a", "GPU-0", "40Gi").Instance("MIG-b", "GPU-1", "40Gi"),
			want:   map[string]alloc.Reason{"GPU-0": alloc.ReasonUnhealthy, "GPU-1": alloc.ReasonUnhealthy, "MIG-a": alloc.ReasonCordoned, "MIG-b": ""},
		},
		{
			name: "an instance for itself", annotation: "MIG-a",
			report: bt.MakeGPUNodeOf("a", 1, "80Gi").Instance("MIG-a", "GPU-0", "40Gi").Instance("MIG-b", "GPU-0", "40Gi"),
			want:   map[string]alloc.Reason{"GPU-0": alloc.ReasonUnhealthy, "MIG-a": alloc.ReasonCordoned, "MIG-b": ""},
		},
		{
			name: "what is unhealthy besides is that", annotation: "GPU-0", report: bt.MakeGPUNodeOf("a", 1, "80Gi").At("GPU-0").Unhealthy(),
			want: map[string]alloc.Reason{"GPU-0": alloc.ReasonUnhealthy},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.report(tt.report)
			node := bt.MakeNode("a")
			node.Annotations = map[string]string{berthv1alpha1.AnnotationCordonedGPUs: tt.annotation}
			view := f.Viewer().View(node, nil, &Query{})
			got := map[string]alloc.Reason{}
			for _, d := range view.Devices {
				got[d.UUID] = d.Blocked
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("blocked (-want +got)\n%s", diff)
			}
			_, unknown := view.Report.Cordoned(node)
			if diff := cmp.Diff(tt.unknown, unknown); diff != "" {
				t.Errorf("unknown (-want +got)\n%s", diff)
			}
		})
	}
}
