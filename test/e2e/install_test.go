// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-dev/berth/test/e2e/kindgpu"
)

// repository is this module's folder, from this one.
var repository = filepath.Join("..", "..")

// testGuide does what docs/install.md says. A real admin's machine has a registry and GPUs; here the images are on the
// nodes, and the nodes are kind's.
func testGuide(t *testing.T, c *cluster) {
	began := time.Now().Add(-time.Second) // Events have whole seconds
	for _, section := range []string{"Which nodes", "Install", "Check"} {
		c.follow(t, section)
	}
	var hello corev1.Pod
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "hello-berth"}, &hello); err != nil {
		t.Fatal(err)
	}
	uuid := allocationOf(t, &hello).Devices[0].UUID
	device := kindgpu.Device(c.worker(t, hello.Spec.NodeName).index(t, uuid))
	if log := kubectl(t, "-n", namespace, "logs", hello.Name); strings.TrimSpace(log) != device {
		t.Errorf("the pod printed %q, want %s of its GPU %s", log, device, uuid)
	}
	for _, w := range c.warnings(t, began) {
		t.Errorf("warning: %s", w)
	}
}

// follow runs the commands of a section of docs/install.md, which are fenced as "sh".
func (c *cluster) follow(t *testing.T, section string) {
	t.Helper()
	guide, err := os.ReadFile(filepath.Join(repository, "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(guide), "\n## "+section+"\n")
	if !ok {
		t.Fatalf("docs/install.md has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatalf("the section %q of docs/install.md has no commands", section)
	}
	// The commands are those of somebody who has the manifests in the folder where they are.
	dir := filepath.Join(c.artifacts, "install")
	must(t, "mkdir", "-p", dir)
	must(t, "cp", "-r", filepath.Join(repository, "manifests"), dir)
	var nodes []string
	for _, w := range c.workers {
		nodes = append(nodes, w.name)
	}
	for _, block := range blocks {
		cmd := exec.CommandContext(t.Context(), "bash", "-euxo", "pipefail", "-c", block[1])
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "NODES="+strings.Join(nodes, " "), "IMAGES="+c.images, "VERSION="+c.version)
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatalf("docs/install.md, %s: %v", section, err)
		}
		if strings.Contains(string(out), "Warning:") {
			t.Errorf("docs/install.md, %s: kubectl warns", section)
		}
	}
}

// warnings returns the Events since a time that are warnings, and not of what the cluster itself is made of.
func (c *cluster) warnings(t *testing.T, since time.Time) []string {
	t.Helper()
	var events corev1.EventList
	if err := c.client.List(t.Context(), &events); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range events.Items {
		last := e.LastTimestamp.Time
		if e.EventTime.After(last) {
			last = e.EventTime.Time
		}
		if isOfABusyKubelet(&e) {
			continue
		}
		if e.Type == corev1.EventTypeWarning && last.After(since) && e.InvolvedObject.Namespace != "kube-system" {
			out = append(out, fmt.Sprintf("%s %s/%s: %s: %s", e.InvolvedObject.Kind, e.InvolvedObject.Namespace, e.InvolvedObject.Name, e.Reason, e.Message))
		}
	}
	return out
}

// isOfABusyKubelet says whether an Event is of a kubelet that did not get to know a pod's ConfigMaps or Secrets within the
// second that it waits before it tries again: nothing that anybody did.
func isOfABusyKubelet(e *corev1.Event) bool {
	return e.Reason == "FailedMount" && strings.HasSuffix(e.Message, "cache: timed out waiting for the condition")
}

// objects returns the name of every object that somebody made, which neither comes and goes by itself nor is the
// tests'.
func (c *cluster) objects(t *testing.T) []string {
	t.Helper()
	kinds := strings.Fields(kubectl(t, "api-resources", "--verbs=list", "-o", "name"))
	kinds = slices.DeleteFunc(kinds, func(kind string) bool {
		return slices.Contains([]string{"events", "events.events.k8s.io", "leases.coordination.k8s.io", "componentstatuses",
			"pods", "ipaddresses.networking.k8s.io"}, kind) || strings.HasSuffix(kind, "metrics.k8s.io")
	})
	out := kubectl(t, "get", strings.Join(kinds, ","), "-A", "-o",
		"jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{'\\n'}{end}")
	names := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(names)
	return names
}

// testUninstall takes away what the guide installed. A pod that runs keeps running with its GPU.
func testUninstall(t *testing.T, c *cluster, before []string) {
	pod := c.run(t, newPod("staying", "10Gi"))
	seen := see(t, pod.Name, "server")
	c.follow(t, "Uninstall")
	c.checkNothingLeft(t, before)
	if c.get(t, pod); pod.Status.Phase != corev1.PodRunning || pod.Status.ContainerStatuses[0].RestartCount > 0 {
		t.Errorf("the pod's phase is %s, its container was restarted %d times", pod.Status.Phase, pod.Status.ContainerStatuses[0].RestartCount)
	}
	if now := see(t, pod.Name, "server"); !slices.Equal(now.devices, seen.devices) {
		t.Errorf("the pod sees %v, and saw %v", now.devices, seen.devices)
	}
}

// checkNothingLeft compares the cluster with what it was before the installation.
func (c *cluster) checkNothingLeft(t *testing.T, before []string) {
	t.Helper()
	eventually(t, "the cluster is as it was", func(context.Context) (bool, string) {
		left := slices.DeleteFunc(c.objects(t), func(name string) bool { return slices.Contains(before, name) })
		return len(left) == 0, fmt.Sprintf("left: %v", left)
	})
}

// chart writes what the chart installs to a file, with GPU memory as a resource. There is no helm here; charts/cmd/render prints it.
func (c *cluster) chart(t *testing.T) string {
	t.Helper()
	values := fmt.Sprintf(`{"image": {"repository": %q, "tag": %q}, "gpuMemoryResource": true}`, c.images, c.version)
	rendered, err := exec.CommandContext(t.Context(), "go", "run", "-C", filepath.Join(repository, "charts"), "./cmd/render", values).Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "chart.yaml")
	if err := os.WriteFile(file, rendered, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// testChart installs from the chart.
func testChart(t *testing.T, c *cluster) {
	kubectl(t, "create", "namespace", systemNamespace)
	kubectl(t, "apply", "--server-side", "-f", c.chart(t))
	for _, component := range []string{"deployment/berth-scheduler", "deployment/berth-controller", "daemonset/berth-agent"} {
		kubectl(t, "-n", systemNamespace, "rollout", "status", component, "--timeout=2m")
	}
	pod := c.run(t, newPod("charted", "10Gi"))
	if s := see(t, pod.Name, "server"); len(s.devices) != 1 {
		t.Errorf("the pod sees %v", s.devices)
	} else {
		checkTold(t, pod, s.env["NVIDIA_VISIBLE_DEVICES"], allocationOf(t, pod).UUIDs())
	}
}

// testChartGone takes the chart away again, and off the nodes what it had them advertise, as docs/quota.md says.
func testChartGone(t *testing.T, c *cluster, before []string) {
	kubectl(t, "delete", "-f", c.chart(t), "--wait")
	kubectl(t, "delete", "namespace", systemNamespace)
	c.checkNothingLeft(t, before)
	for _, w := range c.workers {
		kubectl(t, "patch", "node", w.name, "--subresource=status", "--type=merge", "-p", `{"status":{"capacity":{"berth.dev/gpu-memory":null}}}`)
		c.waitAdvertised(t, w, -1)
	}
}
