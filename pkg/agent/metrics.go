// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-base/metrics"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// counters are what an agent counts over its life. One process may run many agents, so they are not global.
type counters struct {
	reads            atomic.Int64
	readErrors       atomic.Int64
	readNanos        atomic.Int64
	writes           atomic.Int64
	writeErrors      atomic.Int64
	leaseErrors      atomic.Int64
	assignmentErrors atomic.Int64
}

// The label UUID is spelt as DCGM's exporter spells it, so that the metrics of both can be joined.
var (
	gpuLabels = []string{"UUID", "gpu", "model"}
	podLabels = []string{"namespace", "pod", "UUID"}

	descTotal    = desc("berth_gpu_memory_total_bytes", "Physical memory of the device.", gpuLabels)
	descReserved = desc("berth_gpu_memory_reserved_bytes", "Memory that the driver keeps for itself.", gpuLabels)
	descUsed     = desc("berth_gpu_memory_used_bytes", "Memory that is allocated on the device, without what the driver reserves.", gpuLabels)
	descForeign  = desc("berth_gpu_memory_foreign_bytes", "Memory held by processes of no known pod.", gpuLabels)
	descHealthy  = desc("berth_gpu_healthy", "Whether the device can be given to pods; the reason says why not.", append(gpuLabels, "reason"))

	descPodUsed = desc("berth_pod_gpu_memory_used_bytes", "Memory that the pod's processes hold on the device.", podLabels)
	descPodIdle = desc("berth_pod_gpu_idle_seconds",
		"Time for which the pod was measured to compute nothing on any GPU; 0 while it computes, missing while that is not measured.",
		[]string{"namespace", "pod"})

	descAge        = desc("berth_agent_report_age_seconds", "Time since the report in the API was last what the agent saw.", nil)
	descReads      = desc("berth_agent_readings_total", "Readings of all devices.", nil)
	descReadErrors = desc("berth_agent_reading_errors_total", "Readings that failed as a whole.", nil)
	descReadTime   = desc("berth_agent_reading_seconds_total", "Time spent in readings.", nil)
	descWrites     = desc("berth_agent_report_writes_total", "Writes of the report, by result.", []string{"result"})
	descLease      = desc("berth_agent_lease_errors_total", "Renewals of the Lease that failed.", nil)
	descKubelet    = desc("berth_agent_pod_resources_errors_total", "Requests to the kubelet's PodResources API that failed.", nil)

	allDescs = []*metrics.Desc{
		descTotal, descReserved, descUsed, descForeign, descHealthy, descPodUsed, descPodIdle,
		descAge, descReads, descReadErrors, descReadTime, descWrites, descLease, descKubelet,
	}
)

func desc(name, help string, labels []string) *metrics.Desc {
	return metrics.NewDesc(name, help, labels, nil, metrics.ALPHA, "")
}

// collector makes metrics of an agent's state when it is asked, so that a device or pod that is gone has none.
type collector struct {
	metrics.BaseStableCollector
	agent *Agent
}

// Collector returns the metrics of the agent, to be registered once.
func (a *Agent) Collector() metrics.StableCollector { return &collector{agent: a} }

// DescribeWithStability implements metrics.StableCollector.
func (c *collector) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, d := range allDescs {
		ch <- d
	}
}

// CollectWithStability implements metrics.StableCollector.
func (c *collector) CollectWithStability(ch chan<- metrics.Metric) {
	gauge := func(d *metrics.Desc, v float64, labels ...string) {
		ch <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, v, labels...)
	}
	counter := func(d *metrics.Desc, v float64, labels ...string) {
		ch <- metrics.NewLazyConstMetric(d, metrics.CounterValue, v, labels...)
	}
	a := c.agent
	if s, idle := a.newestWithIdle(); s != nil {
		names := a.names(context.Background())
		for i := range s.Devices {
			collectDevice(&s.Devices[i], gauge)
			collectPods(&s.Devices[i], names, gauge)
		}
		collectIdle(s, idle, names, gauge)
	}
	if age, written := a.publisher.age(); written {
		gauge(descAge, age.Seconds())
	}
	n := &a.counters
	counter(descReads, float64(n.reads.Load()))
	counter(descReadErrors, float64(n.readErrors.Load()))
	counter(descReadTime, time.Duration(n.readNanos.Load()).Seconds())
	counter(descWrites, float64(n.writes.Load()), "success")
	counter(descWrites, float64(n.writeErrors.Load()), "error")
	counter(descLease, float64(n.leaseErrors.Load()))
	counter(descKubelet, float64(n.assignmentErrors.Load()))
}

type gaugeFunc func(d *metrics.Desc, v float64, labels ...string)

func collectDevice(d *berthv1alpha1.GPUDevice, gauge gaugeFunc) {
	labels := []string{d.UUID, strconv.Itoa(int(d.Index)), d.Model}
	gauge(descTotal, float64(d.Memory.Total.Value()), labels...)
	gauge(descReserved, float64(d.Memory.Reserved.Value()), labels...)
	gauge(descUsed, float64(d.Memory.Used.Value()), labels...)
	var foreign int64
	for i := range d.Processes {
		if d.Processes[i].PodUID == "" {
			foreign += d.Processes[i].Memory.Value()
		}
	}
	gauge(descForeign, float64(foreign), labels...)
	healthy := 0.0
	if d.Health == berthv1alpha1.DeviceHealthy {
		healthy = 1
	}
	gauge(descHealthy, healthy, append(labels, d.Reason)...)
}

// podNames are the names of the node's pods. While the processes of a pod end, there may be two of one name.
type podNames map[types.UID]types.NamespacedName

// of returns the name of a pod. One whose name is not known has its UID for a name.
func (n podNames) of(uid types.UID) types.NamespacedName {
	if name, known := n[uid]; known {
		return name
	}
	return types.NamespacedName{Name: string(uid)}
}

// collectPods makes the metrics of the pods on a device.
func collectPods(d *berthv1alpha1.GPUDevice, names podNames, gauge gaugeFunc) {
	used := map[types.NamespacedName]int64{}
	for i := range d.Processes {
		if p := &d.Processes[i]; p.PodUID != "" {
			used[names.of(p.PodUID)] += p.Memory.Value()
		}
	}
	for name, bytes := range used {
		gauge(descPodUsed, float64(bytes), name.Namespace, name.Name, d.UUID)
	}
}

// collectIdle makes the metrics of pods on all devices: of two of one name, what is true of both.
func collectIdle(s *berthv1alpha1.GPUNodeStatus, idle map[types.UID]time.Duration, names podNames, gauge gaugeFunc) {
	const unmeasured = -1
	times := map[types.NamespacedName]time.Duration{}
	for i := range s.Devices {
		for j := range s.Devices[i].Processes {
			uid := s.Devices[i].Processes[j].PodUID
			if uid == "" {
				continue
			}
			t, measured := idle[uid]
			if !measured {
				t = unmeasured
			}
			if least, listed := times[names.of(uid)]; listed {
				t = min(t, least)
			}
			times[names.of(uid)] = t
		}
	}
	for name, t := range times {
		if t != unmeasured {
			gauge(descPodIdle, t.Seconds(), name.Namespace, name.Name)
		}
	}
}
