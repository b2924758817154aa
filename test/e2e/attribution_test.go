// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/test/e2e/kindgpu"
)

// testAttribution: the driver tells PIDs; whose they are is found out by what kubelet and container runtime really
// call the cgroups here.
func testAttribution(t *testing.T, c *cluster) {
	a := c.run(t, newPod("measured", "20Gi"))
	w := c.worker(t, a.Spec.NodeName)
	gpu := w.index(t, allocationOf(t, a).Devices[0].UUID)
	b := c.run(t, newPod("neighbour", "10Gi", on(w.name)))
	if got := w.index(t, allocationOf(t, b).Devices[0].UUID); got != gpu {
		t.Fatalf("the second pod is on GPU %d, want the first one's, %d", got, gpu)
	}
	kubelet, err := strconv.Atoi(strings.TrimSpace(w.run(t, "pgrep", "-x", "kubelet")))
	if err != nil {
		t.Fatal(err)
	}
	pidA, pidB := w.pidOf(t, a, "server"), w.pidOf(t, b, "server")
	w.load(gpu, pidA, 18, 50)
	w.load(gpu, pidB, 9, 0)
	w.load(gpu, kubelet, 3, 0)
	w.write(t)
	c.waitDevice(t, w, gpu, "has each pod's memory", func(d *berthv1alpha1.GPUDevice) bool {
		return held(d, a.UID) == 18 && held(d, b.UID) == 9 && held(d, "") == 3 && d.Memory.Used.Value() == 30<<30
	})
	c.waitDevice(t, w, gpu, "has one pod computing, and the other not", func(d *berthv1alpha1.GPUDevice) bool {
		return active(d, a.UID) && !active(d, b.UID)
	})

	// The process ends, and the driver still holds its memory: it stays the pod's until it is given back.
	kubectl(t, "-n", namespace, "delete", "pod", a.Name, "--grace-period=1")
	c.waitGone(t, a)
	w.state.GPUs[gpu].Processes[0].Utilization = 0
	w.write(t)
	c.waitDevice(t, w, gpu, "still has the memory of the pod that is gone", func(d *berthv1alpha1.GPUDevice) bool {
		return held(d, a.UID) == 18 && held(d, b.UID) == 9
	})
	w.unload(gpu)
	w.load(gpu, pidB, 9, 0)
	w.write(t)
	c.waitDevice(t, w, gpu, "has the memory back", func(d *berthv1alpha1.GPUDevice) bool {
		return held(d, a.UID) == 0 && held(d, b.UID) == 9 && held(d, "") == 0
	})
	if files := see(t, b.Name, "server").devices; len(files) != 1 || files[0] != kindgpu.Device(gpu) {
		t.Errorf("the neighbour sees %v", files)
	}
	c.checkAgent(t, w)
}

// checkAgent checks that the agent of a node has everything that it needs: the driver, the kubelet's socket, and the
// API, as root without capabilities.
func (c *cluster) checkAgent(t *testing.T, w *worker) {
	t.Helper()
	metrics := kubectl(t, "get", "--raw", "/api/v1/namespaces/"+systemNamespace+"/pods/"+c.agentPod(t, w).Name+":9401/proxy/metrics")
	for _, name := range []string{
		"berth_agent_reading_errors_total", "berth_agent_pod_resources_errors_total", "berth_agent_lease_errors_total",
	} {
		value := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(metrics)
		if value == nil || value[1] != "0" {
			t.Errorf("%s of the agent on %s: %q, want 0", name, w.name, value)
		}
	}
}
