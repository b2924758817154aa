// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// twoSockets is what an exporter writes of a node whose kubelet rejects a container that fits on no NUMA node.
const twoSockets = `
apiVersion: topology.node.k8s.io/v1alpha2
kind: NodeResourceTopology
metadata: {name: sockets}
attributes:
- {name: topologyManagerPolicy, value: single-numa-node}
- {name: topologyManagerScope, value: container}
zones:
- name: node-0
  type: Node
  resources:
  - {name: cpu, capacity: "2", allocatable: "2", available: "2"}
  - {name: memory, capacity: 4Gi, allocatable: 4Gi, available: 4Gi}
- name: node-1
  type: Node
  resources:
  - {name: cpu, capacity: "6", allocatable: "6", available: "6"}
  - {name: memory, capacity: 16Gi, allocatable: 16Gi, available: 16Gi}
`

// TestTopology enables NodeResourceTopologyMatch beside Berth, as docs/scheduler-configuration.md says.
func TestTopology(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller", "--no-scheduler")
	for _, object := range topologyObjects(t) {
		createSoon(t, lab, object)
	}
	priorityClass(t, lab, "low", 10)
	priorityClass(t, lab, "high", 1000)
	s := newSite(t, lab, "sockets", 1, "80Gi")
	proxy := newAPIProxy(t, lab, forwardAll)
	scheduler := runSchedulerBeside(t, lab, proxy, "{name: NodeResourceTopologyMatch}, ", "{staleAfter: 0s}")
	const refused = "cannot align container"

	fits, _ := s.place(s.pod("four-cpus", "10Gi", priority("low"), guaranteed("4"), grace(0)))
	wide := harness.Create(t, lab, s.pod("seven-cpus", "10Gi", guaranteed("7"))) // of 64, on no NUMA node
	if got := lab.WaitUnschedulable(t, wide); !strings.Contains(got, refused) {
		t.Errorf("7 CPUs on NUMA nodes of 2 and 6: %s", got)
	}
	large := harness.Create(t, lab, s.pod("too-much-memory", "100Gi", guaranteed("4")))
	if got := lab.WaitUnschedulable(t, large); !strings.Contains(got, string(gpustate.ReasonTooSmall)) &&
		!strings.Contains(got, string(gpustate.ReasonNothingEverFits)) {
		t.Errorf("Berth does not have the last word: %s", got)
	}
	// Who would not fit on a NUMA node anyway evicts nobody from the GPU.
	urgent := harness.Create(t, lab, s.pod("urgent-seven-cpus", "75Gi", priority("high"), guaranteed("7")))
	lab.WaitUnschedulable(t, urgent)
	s.remainsPending(urgent, time.Second)
	if !s.exists(fits) {
		t.Error("a pod was evicted for one that does not fit on a NUMA node")
	}
	lab.Delete(t, urgent, 0)
	narrow, _ := s.place(s.pod("urgent-four-cpus", "75Gi", priority("high"), guaranteed("4")))
	lab.WaitGone(t, fits)

	// Unless a profile enables it, the plugin does nothing.
	scheduler.kill()
	lab.Delete(t, narrow, 0)
	runScheduler(t, lab, proxy, "{staleAfter: 0s}")
	lab.WaitBound(t, wide)
}

// guaranteed gives a pod as many CPUs, and a little memory, of its own.
func guaranteed(cpus string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		all := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpus), corev1.ResourceMemory: resource.MustParse("1Gi")}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: all, Limits: all}
	}
}

// topologyObjects are the CustomResourceDefinition of scheduler-plugins, the role that manifests/topology grants, and
// what an exporter writes.
func topologyObjects(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	module, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/scheduler-plugins").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(module)), "manifests", "noderesourcetopology", "crd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	crd, exported := &unstructured.Unstructured{}, &unstructured.Unstructured{}
	for object, text := range map[*unstructured.Unstructured][]byte{crd: text, exported: []byte(twoSockets)} {
		if err := yaml.Unmarshal(text, &object.Object); err != nil {
			t.Fatal(err)
		}
	}
	roles, err := manifests.Objects("topology")
	if err != nil {
		t.Fatal(err)
	}
	return append(append([]*unstructured.Unstructured{crd}, roles...), exported)
}

// createSoon creates an object as soon as its kind is served.
func createSoon(t *testing.T, lab *harness.Lab, object *unstructured.Unstructured) {
	t.Helper()
	harness.Eventually(t, object.GetKind()+" is created", func(ctx context.Context) (bool, string) {
		err := lab.TryCreate(ctx, object)
		return err == nil, fmt.Sprint(err)
	})
}
