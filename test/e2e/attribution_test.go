// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"os/exec"
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
	metrics := scrape(t, c.agentPod(t, w).Name)
	for _, name := range []string{
		"berth_agent_reading_errors_total", "berth_agent_pod_resources_errors_total", "berth_agent_lease_errors_total",
	} {
		value := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(metrics)
		if value == nil || value[1] != "0" {
			t.Errorf("%s of the agent on %s: %q, want 0", name, w.name, value)
		}
	}
}

// scrape returns the metrics of an agent, as an account that may get /metrics has them and no other.
func scrape(t *testing.T, pod string) string {
	t.Helper()
	const name = "e2e-scraper"
	kubectl(t, "-n", namespace, "create", "serviceaccount", name)
	kubectl(t, "create", "clusterrole", name, "--verb=get", "--non-resource-url=/metrics")
	kubectl(t, "create", "clusterrolebinding", name, "--clusterrole="+name, "--serviceaccount="+namespace+":"+name)
	defer func() {
		kubectl(t, "delete", "clusterrolebinding,clusterrole", name)
		kubectl(t, "-n", namespace, "delete", "serviceaccount", name)
	}()
	forward := exec.CommandContext(t.Context(), "kubectl", "-n", systemNamespace, "port-forward", "pod/"+pod, ":9401")
	out, err := forward.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := forward.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = forward.Process.Kill()
		_ = forward.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n') // Forwarding from 127.0.0.1:PORT -> 9401
	if err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	address, _, _ := strings.Cut(strings.TrimPrefix(line, "Forwarding from "), " ")
	get := func(token string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	if code, _ := get(""); code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", code)
	}
	if code, _ := get(strings.TrimSpace(kubectl(t, "-n", namespace, "create", "token", "default"))); code != http.StatusForbidden {
		t.Errorf("as an account without the right: %d", code)
	}
	code, text := get(strings.TrimSpace(kubectl(t, "-n", namespace, "create", "token", name)))
	if code != http.StatusOK {
		t.Fatalf("as an account with the right: %d %s", code, text)
	}
	return text
}
