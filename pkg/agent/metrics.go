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

	descAge        = desc("berth_agent_report_age_seconds", "Time since the report in the API was last what the agent saw.", nil)
	descReads      = desc("berth_agent_readings_total", "Readings of all devices.", nil)
	descReadErrors = desc("berth_agent_reading_errors_total", "Readings that failed as a whole.", nil)
	descReadTime   = desc("berth_agent_reading_seconds_total", "Time spent in readings.", nil)
	descWrites     = desc("berth_agent_report_writes_total", "Writes of the report, by result.", []string{"result"})
	descLease      = desc("berth_agent_lease_errors_total", "Renewals of the Lease that failed.", nil)
	descKubelet    = desc("berth_agent_pod_resources_errors_total", "Requests to the kubelet's PodResources API that failed.", nil)

	allDescs = []*metrics.Desc{
		descTotal, descReserved, descUsed, descForeign, descHealthy, descPodUsed,
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
	if s := a.newest(); s != nil {
		names := a.names(context.Background())
		for i := range s.Devices {
			collectDevice(&s.Devices[i], gauge)
			collectPods(&s.Devices[i], names, gauge)
		}
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

// collectPods makes the metrics of the pods on a device. One whose name is not known has its UID for a name.
func collectPods(d *berthv1alpha1.GPUDevice, names map[types.UID]types.NamespacedName, gauge gaugeFunc) {
	for i := range d.Processes {
		p := &d.Processes[i]
		if p.PodUID == "" {
			continue
		}
		name, known := names[p.PodUID]
		if !known {
			name.Name = string(p.PodUID)
		}
		gauge(descPodUsed, float64(p.Memory.Value()), name.Namespace, name.Name, d.UUID)
	}
}
