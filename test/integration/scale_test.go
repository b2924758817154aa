// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

const (
	// envScaleNodes says how many nodes TestScale has, instead of scaleNodes: 500 take a minute, and 5000 half an hour.
	envScaleNodes = "BERTH_SCALE_NODES"
	scaleNodes    = 10
	scaleTimeout  = time.Hour
)

// TestScale fills a cluster with a pod for each GPU, and starts the scheduler again, which has to know all of them before it
// decides. No GPU is overbooked. It logs what docs/performance.md says of large clusters: how long it takes, and how much memory
// and processor time the scheduler uses.
func TestScale(t *testing.T) {
	nodes := scaleNodes
	if n, err := strconv.Atoi(os.Getenv(envScaleNodes)); err == nil {
		nodes = n
	}
	lab := harness.Start(t, "--bare", "--no-controller")
	s := &storm{Lab: lab, t: t, books: newBooks(t, lab)}
	for i := range nodes {
		s.nodes = append(s.nodes, fmt.Sprintf("n%04d", i))
	}
	began := time.Now()
	s.parallel(nodes, func(ctx context.Context, i int) error {
		if err := s.books.addNode(ctx, s.nodes[i]); err != nil {
			return err
		}
		return lab.TryCreate(ctx, scaleNode(s.nodes[i]))
	})
	t.Logf("%d nodes of %d GPUs: made within %.0f s", nodes, stormGPUs, time.Since(began).Seconds())
	logUse(t, "with the nodes and without pods", lab.Child(t, "scheduler"))
	s.books.watch()

	pods := nodes * stormGPUs
	began = time.Now()
	s.parallel(pods, func(ctx context.Context, i int) error {
		return s.TryCreate(ctx, scalePod(fmt.Sprintf("p%05d", i), fmt.Sprintf("%dGi", 20+7*(i%8))))
	})
	made := time.Since(began)
	s.waitFor(scaleTimeout, fmt.Sprintf("%d pods are bound", pods), func() int { return s.books.boundOf("") }, pods)
	took := time.Since(began)
	t.Logf("%d pods: made within %.0f s, bound within %.0f s: %.0f a second", pods, made.Seconds(), took.Seconds(), float64(pods)/took.Seconds())
	s.parallel(nodes, func(ctx context.Context, i int) error { return s.books.reportBooked(ctx, s.nodes[i]) })
	s.waitFor(scaleTimeout, fmt.Sprintf("%d pods are Ready", pods), s.books.readyCount, pods)
	old := lab.Child(t, "scheduler")
	logUse(t, "with all pods bound, Ready and reported", old)

	last := scalePod("last", "5Gi")
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The Lease of the one that was killed would have to expire, which is a setting and not what is measured.
	lease := client.ObjectKey{Namespace: "berth-system", Name: "berth-scheduler"}
	if err := lab.Clientset.CoordinationV1().Leases(lease.Namespace).Delete(t.Context(), lease.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	harness.Create(t, lab, last)
	s.waitFor(scaleTimeout, "the pod of the new scheduler is bound", func() int { return s.books.boundOf("") }, pods+1)
	t.Logf("from the start of the next scheduler to its first Binding: %.1f s", time.Since(began).Seconds())
	next := lab.Child(t, "scheduler")
	if next == old {
		t.Fatal("the scheduler was not started again")
	}
	logUse(t, "after its first Binding", next)
}

// scaleNode is a node as heavy as real ones are: with the 50 images that a kubelet lists, and the labels of feature discovery.
func scaleNode(name string) *corev1.Node {
	n := berthtesting.MakeNode(name)
	for i := range 50 {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
			Names: []string{
				fmt.Sprintf("registry.example.com/team-%02d/inference@sha256:%064d", i, i), fmt.Sprintf("registry.example.com/team-%02d/inference:v1.%d", i, i),
			},
			SizeBytes: int64(i) << 28,
		})
	}
	for i := range 40 {
		n.Labels[fmt.Sprintf("feature.node.kubernetes.io/cpu-feature.%02d", i)] = "true"
	}
	return n
}

// scalePod is a pod as heavy as those of inference servers are.
func scalePod(name, memory string) *corev1.Pod {
	pod := berthtesting.MakePod(name).Memory(memory).Obj()
	pod.Labels = map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "inference", "pod-template-hash": "6b8489b64c"}
	c := &pod.Spec.Containers[0]
	c.Args = []string{"--model=/models/qwen", "--max-model-len=8192", "--max-num-seqs=64", "--served-model-name=qwen"}
	for i := range 12 {
		c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", i), Value: "the value of a setting"})
	}
	c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "shm", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}})
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "shm", MountPath: "/dev/shm"})
	return pod
}

// logUse logs what a process uses now: proc_pid_status(5), getrusage's unit is a clock tick of 10 ms in proc_pid_stat(5).
func logUse(t *testing.T, when string, pid int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	memory := map[string]int{} // KiB
	for line := range strings.Lines(string(status)) {
		if name, value, _ := strings.Cut(line, ":"); name == "VmRSS" || name == "VmHWM" {
			memory[name], _ = strconv.Atoi(strings.Fields(value)[0])
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(stat), ") ")
	ticks := strings.Fields(fields)
	user, _ := strconv.Atoi(ticks[11])
	system, _ := strconv.Atoi(ticks[12])
	t.Logf("the scheduler %s: %d MiB resident, %d MiB at most, %.1f s of processor time", when, memory["VmRSS"]>>10, memory["VmHWM"]>>10,
		float64(user+system)/100)
}
