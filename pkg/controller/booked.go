// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// The label UUID is spelt as DCGM's exporter spells it, so that the metrics of both can be joined.
var (
	descBooked = prometheus.NewDesc("berth_gpu_memory_booked_bytes",
		"Memory that pods have booked on the device.", []string{"node", "UUID"}, nil)
	descPodBooked = prometheus.NewDesc("berth_pod_gpu_memory_booked_bytes",
		"Memory that the pod has booked on the device.", []string{"namespace", "pod", "UUID"}, nil)
)

// bookedCollector makes metrics of the cache when it is asked, so that a device or pod that is gone has none.
type bookedCollector struct {
	cache client.Reader
	// pods says that each pod is told of too: metrics then grow with pods.
	pods bool
	// elected is closed when this process works: of several replicas, one tells.
	elected <-chan struct{}
}

// Describe implements prometheus.Collector.
func (c *bookedCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descBooked
	ch <- descPodBooked
}

// Collect implements prometheus.Collector.
func (c *bookedCollector) Collect(ch chan<- prometheus.Metric) {
	select {
	case <-c.elected:
	default:
		return
	}
	var (
		nodes gpunode.List
		pods  corev1.PodList
	)
	for _, list := range []client.ObjectList{&nodes, &pods} {
		if err := c.cache.List(context.Background(), list, client.UnsafeDisableDeepCopy); err != nil {
			return // the cache does not run yet
		}
	}
	type place struct{ node, device string }
	booked := map[place]float64{}
	for i := range nodes.Items {
		if s := nodes.Items[i].Status; s != nil {
			for j := range s.Devices {
				booked[place{nodes.Items[i].Name, s.Devices[j].UUID}] = 0
			}
		}
	}
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		if m, err := prometheus.NewConstMetric(desc, prometheus.GaugeValue, v, labels...); err == nil {
			ch <- m
		}
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Spec.NodeName == "" || isOver(pod) {
			continue
		}
		devices, err := gpustate.BookedOn(pod)
		if err != nil {
			continue // the scheduler says it of the node
		}
		for device, bytes := range devices {
			booked[place{pod.Spec.NodeName, device}] += float64(bytes)
			if !c.pods {
				continue
			}
			gauge(descPodBooked, float64(bytes), pod.Namespace, pod.Name, device)
		}
	}
	for p, bytes := range booked {
		gauge(descBooked, bytes, p.node, p.device)
	}
}
