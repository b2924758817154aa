// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"

	"github.com/berth-dev/berth/internal/metricsdoc"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) {
			o.Names = fakeNames{"pod": {Namespace: "ns", Name: "server"}, "finished": {Namespace: "ns", Name: "finished"}}
			o.Attributor = fakeAttributor{1: "pod", 3: "unnamed", 4: "unmeasured"}
			d, lost := gpu(0), gpu(1)
			d.Memory.Used = 13 * gib
			d.Processes = []Process{
				{PID: 1, Memory: 9 * gib, Active: true}, {PID: 2, Memory: 3 * gib}, {PID: 3, Memory: gib}, {PID: 4, ActivityUnknown: true},
			}
			lost.Reason = ReasonDeviceLost
			o.Reader.(*fakeReader).reading.Devices = []Device{d, lost}
		})
		wait(10 * time.Second)
		const labels = `UUID="GPU-00000000-0000-4000-8000-000000000000",gpu="0",model="NVIDIA H100 80GB HBM3"`
		const lost = `UUID="GPU-00000001-0000-4000-8000-000000000000",gpu="1",model="NVIDIA H100 80GB HBM3"`
		want := `
# HELP berth_gpu_memory_used_bytes [ALPHA] Memory that is allocated on the device, without what the driver reserves.
# TYPE berth_gpu_memory_used_bytes gauge
berth_gpu_memory_used_bytes{` + labels + `} 1.3958643712e+10
berth_gpu_memory_used_bytes{` + lost + `} 0
# HELP berth_gpu_memory_foreign_bytes [ALPHA] Memory held by processes of no known pod.
# TYPE berth_gpu_memory_foreign_bytes gauge
berth_gpu_memory_foreign_bytes{` + labels + `} 3.221225472e+09
berth_gpu_memory_foreign_bytes{` + lost + `} 0
# HELP berth_gpu_healthy [ALPHA] Whether the device can be given to pods; the reason says why not.
# TYPE berth_gpu_healthy gauge
berth_gpu_healthy{` + labels + `,reason=""} 1
berth_gpu_healthy{` + lost + `,reason="DeviceLost"} 0
# HELP berth_pod_gpu_memory_used_bytes [ALPHA] Memory that the pod's processes hold on the device.
# TYPE berth_pod_gpu_memory_used_bytes gauge
berth_pod_gpu_memory_used_bytes{UUID="GPU-00000000-0000-4000-8000-000000000000",namespace="ns",pod="server"} 9.663676416e+09
berth_pod_gpu_memory_used_bytes{UUID="GPU-00000000-0000-4000-8000-000000000000",namespace="",pod="unnamed"} 1.073741824e+09
berth_pod_gpu_memory_used_bytes{UUID="GPU-00000000-0000-4000-8000-000000000000",namespace="",pod="unmeasured"} 0
# HELP berth_pod_gpu_idle_seconds [ALPHA] Time for which the pod was measured to compute nothing on any GPU; 0 while it computes, missing while that is not measured.
# TYPE berth_pod_gpu_idle_seconds gauge
berth_pod_gpu_idle_seconds{namespace="ns",pod="server"} 0
berth_pod_gpu_idle_seconds{namespace="",pod="unnamed"} 10
# HELP berth_agent_report_writes_total [ALPHA] Writes of the report, by result.
# TYPE berth_agent_report_writes_total counter
berth_agent_report_writes_total{result="error"} 0
berth_agent_report_writes_total{result="success"} 1
`
		if err := testutil.CustomCollectAndCompare(r.Collector(), strings.NewReader(want),
			"berth_gpu_memory_used_bytes", "berth_gpu_memory_foreign_bytes",
			"berth_gpu_healthy", "berth_pod_gpu_memory_used_bytes", "berth_pod_gpu_idle_seconds", "berth_agent_report_writes_total"); err != nil {
			t.Error(err)
		}
		registry := metrics.NewKubeRegistry()
		registry.CustomMustRegister(r.Collector())
		metricsdoc.Check(t, filepath.Join("..", "..", "docs", "metrics.md"), "agent", registry.Registerer())
	})
}

// While the processes of a pod end, there may be another of its name, and no metric may be told twice: Prometheus would get none.
func TestMetricsOfTwoPodsOfOneName(t *testing.T) {
	server := types.NamespacedName{Namespace: "ns", Name: "server-0"}
	const labels = `{namespace="ns",pod="server-0"}`
	for name, tc := range map[string]struct {
		second Process
		want   string
	}{
		"both are idle: the one that is for less time counts": {Process{PID: 2, Memory: gib}, labels + " 10\n"},
		"one computes":        {Process{PID: 2, Memory: gib, Active: true}, labels + " 0\n"},
		"one is not measured": {Process{PID: 2, Memory: gib, ActivityUnknown: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(o *Options) {
					o.Names = fakeNames{"old": server, "new": server}
					o.Attributor = fakeAttributor{1: "old", 2: "new"}
					d := gpu(0)
					d.Processes = []Process{{PID: 1, Memory: 2 * gib}}
					o.Reader.(*fakeReader).reading.Devices = []Device{d}
				})
				wait(time.Minute)
				r.reader.change(func() {
					d := &r.reader.reading.Devices[0]
					d.Processes = append(d.Processes[:1:1], tc.second)
				})
				wait(10*time.Second + DefaultReadInterval)
				want := `
# HELP berth_pod_gpu_memory_used_bytes [ALPHA] Memory that the pod's processes hold on the device.
# TYPE berth_pod_gpu_memory_used_bytes gauge
berth_pod_gpu_memory_used_bytes{UUID="GPU-00000000-0000-4000-8000-000000000000",namespace="ns",pod="server-0"} 3.221225472e+09
`
				if tc.want != "" {
					want += `# HELP berth_pod_gpu_idle_seconds [ALPHA] Time for which the pod was measured to compute nothing on any GPU; 0 while it computes, missing while that is not measured.
# TYPE berth_pod_gpu_idle_seconds gauge
berth_pod_gpu_idle_seconds` + tc.want
				}
				if err := testutil.CustomCollectAndCompare(r.Collector(), strings.NewReader(want),
					"berth_pod_gpu_memory_used_bytes", "berth_pod_gpu_idle_seconds"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestReportAgeGrowsWhileTheReportCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		wait(10 * time.Second)
		if age, ok := r.publisher.age(); !ok || age > time.Second {
			t.Errorf("age %s, %t", age, ok)
		}
		r.client.set(true, false)
		wait(10 * time.Second)
		if age, _ := r.publisher.age(); age > time.Second {
			t.Errorf("age %s, though what is written is still true", age)
		}
		r.setUsed(10 * gib)
		wait(time.Minute)
		if age, _ := r.publisher.age(); age < 59*time.Second {
			t.Errorf("age %s, a minute after the report became wrong", age)
		}
	})
}
