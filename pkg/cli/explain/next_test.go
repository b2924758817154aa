// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// TestWhenItIsTriedNext: what is known of times is told, with what happens then; what is not known is not.
func TestWhenItIsTriedNext(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	readyFor := func(d time.Duration) *bt.Pod {
		return bt.MakePod("low").Memory("60Gi").Bound("a", ago(d), "GPU-0=60Gi").Started(ago(d)).Ready(ago(d))
	}
	low := func() *bt.Pod { return readyFor(time.Hour) }
	tests := []struct {
		name   string
		report *bt.GPUNode
		low    *bt.Pod
		waits  *bt.Pod
		in     time.Duration // until it is tried; 0 = nobody knows
		want   []string
	}{
		{
			name: "a pod becomes idle enough to be evicted", low: low().Annotation("idle-after", "10m"), waits: bt.MakePod("waits").Memory("60Gi"),
			report: bt.MakeGPUNode("a").GPU("GPU-0", "80Gi").Idle("low", "60Gi", ago(8*time.Minute)), in: 2 * time.Minute,
			want: []string{
				"It is tried again at 2026-11-25T12:02:00Z, in 2m, when pod default/low has been idle for its 10m, and would be placed on node a, evicting default/low",
				"It lacks 40.2Gi on GPU 0 of node a: pod default/low holds 60Gi and is idle for 8m of 10m.",
			},
		},
		{
			name: "a min-runtime ends", low: readyFor(3*time.Minute).Annotation("min-runtime", "5m"), waits: bt.MakePod("waits").Memory("60Gi").Priority(9),
			report: bt.MakeGPUNode("a").GPU("GPU-0", "80Gi").Active("low", "60Gi"), in: 2 * time.Minute,
			want: []string{"in 2m, when the min-runtime of pod default/low is over, and would be placed on node a, evicting default/low"},
		},
		{
			name: "a pod computes, for as long as it likes", low: low().Annotation("idle-after", "10m"), waits: bt.MakePod("waits").Memory("60Gi"),
			report: bt.MakeGPUNode("a").GPU("GPU-0", "80Gi").Active("low", "60Gi"),
			want:   []string{"Nothing that is known will give it a place"},
		},
		{
			name: "a pod is going, and its memory is waited for", low: low().Terminating(noon.Add(20 * time.Second)), waits: bt.MakePod("waits").Memory("60Gi"),
			report: bt.MakeGPUNode("a").GPU("GPU-0", "80Gi").Active("low", "60Gi"),
			want:   []string{"It would be placed on node a after", "pod default/low holds 60Gi and is going, by 2026-11-25T12:00:20Z at the latest"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			report := tt.report.Obj()
			s := &simulator.Snapshot{Time: noon, Objects: []runtime.Object{
				&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "nvidia"}, Handler: "nvidia"},
				bt.MakeNode("a"), &gpunode.Object{ObjectMeta: report.ObjectMeta, Status: &report.Status},
				tt.low.Obj(), tt.waits.Created(noon.Add(-time.Minute)).Obj(),
			}}
			s.TakeForAlive()
			e, err := Ask(t.Context(), s, corev1.NamespaceDefault, "waits")
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := e.Render(&out, false); err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("want %q in\n%s", want, out.String())
				}
			}
			if tt.in == 0 && e.Next != nil || tt.in > 0 && (e.Next == nil || e.Next.Time.Sub(noon).Round(time.Second) != tt.in) {
				t.Errorf("it is tried next: %+v, want in %s", e.Next, tt.in)
			}
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if e.Next != nil && !strings.Contains(string(text), `"because":["`) || e.Nearest == "" || !strings.Contains(string(text), `"nearest":"It lacks`) {
				t.Errorf("JSON does not say so: %s", text)
			}
		})
	}
}
