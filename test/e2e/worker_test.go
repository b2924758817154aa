// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-dev/berth/test/e2e/kindgpu"
	"github.com/berth-dev/berth/test/nvmlmock"
)

// gpusPerWorker is how many GPUs hack/kind/cluster.sh gives each.
const gpusPerWorker = 4

// worker is a node with GPUs, and what its driver says of them.
type worker struct {
	name      string
	stateFile string
	state     nvmlmock.State
}

func newWorker(name, dir string) *worker {
	return &worker{
		name: name, stateFile: filepath.Join(dir, kindgpu.DriverDir, kindgpu.StateFile), state: kindgpu.State(name, gpusPerWorker),
	}
}

// reset makes the GPUs idle.
func (w *worker) reset(t *testing.T) {
	t.Helper()
	w.state = kindgpu.State(w.name, gpusPerWorker)
	w.write(t)
}

func (w *worker) write(t *testing.T) {
	t.Helper()
	if err := w.state.WriteFile(w.stateFile); err != nil {
		t.Fatal(err)
	}
}

// index returns which GPU has a UUID.
func (w *worker) index(t *testing.T, uuid string) int {
	t.Helper()
	i := slices.IndexFunc(w.state.GPUs, func(g nvmlmock.GPU) bool { return g.UUID == uuid })
	if i < 0 {
		t.Fatalf("node %s has no GPU %s", w.name, uuid)
	}
	return i
}

// load makes a process hold memory of a GPU, in GiB, and compute or not. It is shown with the next write.
func (w *worker) load(gpu, pid int, gib uint64, utilization int) {
	g := &w.state.GPUs[gpu]
	g.Memory.Used += gib << 30
	g.Processes = append(g.Processes, nvmlmock.Process{PID: pid, Memory: gib << 30, Utilization: utilization})
}

// unload takes away all that is on a GPU.
func (w *worker) unload(gpu int) {
	g := &w.state.GPUs[gpu]
	g.Memory.Used, g.Processes = 0, nil
}

// run runs a program in the node.
func (w *worker) run(t *testing.T, args ...string) string {
	t.Helper()
	return must(t, "docker", append([]string{"exec", w.name}, args...)...)
}

// pidOf returns the ID, among the node's processes, of the first process of a pod's container: what the container
// runtime says, which the agent does not ask.
func (w *worker) pidOf(t *testing.T, pod *corev1.Pod, container string) int {
	t.Helper()
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name != container {
			continue
		}
		id := strings.TrimPrefix(status.ContainerID, "containerd://")
		for line := range strings.Lines(w.run(t, "ctr", "-n", "k8s.io", "tasks", "list")) {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == id {
				pid, err := strconv.Atoi(fields[1])
				if err != nil {
					t.Fatal(err)
				}
				return pid
			}
		}
	}
	t.Fatalf("the container runtime of %s does not run container %s of pod %s", w.name, container, pod.Name)
	return 0
}
