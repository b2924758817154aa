// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

const (
	// envStormNodes says how many nodes the storm has, instead of stormNodes: 500 are 4000 GPUs and 200 preemptors, and
	// take several minutes.
	envStormNodes = "BERTH_STORM_NODES"
	stormNodes    = 40
	stormGPUs     = 8
	stormTotal    = "80Gi"
	// stormLinger is how long the processes of a pod hold their memory after the pod is gone.
	stormLinger  = time.Second
	stormTimeout = 10 * time.Minute
	// stormWorkers is how many requests to the API server are under way at a time.
	stormWorkers = 16
)

// TestStorm lets many pods of high priority arrive at once in a cluster full of pods of low priority. Every one is
// placed; no GPU is overbooked at any time, dying processes counted; about as few pods are evicted as a solver finds
// that knows all preemptors beforehand; and none is evicted that made no room.
func TestStorm(t *testing.T) {
	nodes := stormNodes
	if n, err := strconv.Atoi(os.Getenv(envStormNodes)); err == nil {
		nodes = n
	}
	lab := harness.Start(t, "--bare", "--no-controller")
	priorityClass(t, lab, "low", 10)
	priorityClass(t, lab, "high", 1000)
	s := newStorm(t, lab, nodes)
	s.fill()

	preemptors := stormPreemptors(max(nodes*200/500, 20))
	best := s.model().fewestVictims(preemptors)
	began := time.Now()
	s.create(preemptors)
	s.waitBound("high", len(preemptors))
	t.Logf("%d GPUs, %d pods of low priority, %d preemptors: all are bound after %.1f s",
		nodes*stormGPUs, s.low, len(preemptors), time.Since(began).Seconds())
	logDecisionTimes(t, lab)

	victims := s.victims()
	s.wait("the memory of all victims is back", s.books.booked, s.low-len(victims)+len(preemptors))
	t.Logf("%d victims; the solver finds %d", len(victims), best)
	if len(victims)*100 > best*105 {
		t.Errorf("%d victims, more than 5 %% above the %d of the solver", len(victims), best)
	}
	if idle := s.model().notNeeded(victims); len(idle) > 0 {
		t.Errorf("%d victims made no room: %v", len(idle), idle)
	}
	noNominations(t, lab)
}

// stormPreemptors returns that many pods of high priority, of five kinds.
func stormPreemptors(n int) []*corev1.Pod {
	pods := make([]*corev1.Pod, n)
	for i := range pods {
		memory, counts := "60Gi", "1"
		switch i % 20 {
		case 3, 8, 13, 18:
			memory = "38Gi"
		case 4, 9, 14:
			memory, counts = "120Gi", "1,2"
		case 5, 15:
			memory, counts = "150Gi", "1,2,4"
		case 10:
			memory, counts = "300Gi", "4"
		}
		pods[i] = berthtesting.MakePod(fmt.Sprintf("high-%03d", i)).Memory(memory).GPUCount(counts).Obj()
		pods[i].Spec.PriorityClassName = "high"
	}
	return pods
}

// storm is the cluster of a storm.
type storm struct {
	*harness.Lab
	t     *testing.T
	nodes []string
	low   int
	*books
}

func newStorm(t *testing.T, lab *harness.Lab, nodes int) *storm {
	s := &storm{Lab: lab, t: t, books: newBooks(t, lab)}
	for i := range nodes {
		s.nodes = append(s.nodes, fmt.Sprintf("n%03d", i))
	}
	s.parallel(nodes, func(ctx context.Context, i int) error {
		if err := s.books.addNode(ctx, s.nodes[i]); err != nil {
			return err
		}
		return lab.TryCreate(ctx, berthtesting.MakeNode(s.nodes[i]))
	})
	s.books.watch()
	return s
}

// parallel does n things, several at a time, and ends the test at the first error.
func (s *storm) parallel(n int, do func(ctx context.Context, i int) error) {
	s.t.Helper()
	ctx, cancel := context.WithCancelCause(s.t.Context())
	defer cancel(nil)
	workqueue.ParallelizeUntil(ctx, stormWorkers, n, func(i int) {
		if err := do(ctx, i); err != nil {
			cancel(err)
		}
	})
	if err := context.Cause(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// filler is a pod of low priority: what it holds on each of so many GPUs.
type filler struct{ gib, gpus int }

// fillers returns pods that fill the GPUs of a node, so that none has room for any preemptor.
func fillers(rng *rand.Rand) (pods []filler) {
	for gpus := stormGPUs; gpus > 0; {
		switch kind := rng.IntN(7); {
		case kind == 0 && gpus >= 4:
			pods = append(pods, filler{40, 4}, filler{39, 1}, filler{39, 1}, filler{39, 1}, filler{39, 1})
			gpus -= 4
		case kind == 1 && gpus >= 2:
			pods = append(pods, filler{70, 2})
			gpus -= 2
		case kind == 2 && gpus >= 2:
			pods = append(pods, filler{50, 2}, filler{29, 1}, filler{29, 1})
			gpus -= 2
		case kind == 3:
			pods = append(pods, filler{39, 1}, filler{39, 1})
			gpus--
		case kind == 4:
			pods = append(pods, filler{25, 1}, filler{25, 1}, filler{25, 1})
			gpus--
		case kind == 5:
			pods = append(pods, filler{19, 1}, filler{19, 1}, filler{19, 1}, filler{19, 1})
			gpus--
		case kind == 6:
			pods = append(pods, filler{70, 1})
			gpus--
		}
	}
	return pods
}

// fill places pods of low priority on all nodes, the largest shares first, so that the scheduler packs each node as
// planned, and reports what they hold.
func (s *storm) fill() {
	s.t.Helper()
	rng := rand.New(rand.NewPCG(7, 11))
	waves := map[int][]*corev1.Pod{}
	for _, node := range s.nodes {
		for i, f := range fillers(rng) {
			pod := berthtesting.MakePod(fmt.Sprintf("low-%s-%02d", node, i)).Memory(fmt.Sprintf("%dGi", f.gib*f.gpus)).
				GPUCount(strconv.Itoa(f.gpus)).Obj()
			pod.Spec.PriorityClassName = "low"
			grace(1)(pod)
			pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
				}}},
			}}
			waves[f.gib] = append(waves[f.gib], pod)
		}
	}
	shares := make([]int, 0, len(waves))
	for share := range waves {
		shares = append(shares, share)
	}
	slices.Sort(shares)
	for _, share := range slices.Backward(shares) {
		s.create(waves[share])
		s.low += len(waves[share])
		s.waitBound("low", s.low)
	}
	s.parallel(len(s.nodes), func(ctx context.Context, i int) error { return s.books.reportBooked(ctx, s.nodes[i]) })
	s.waitReady(s.low)
}

func (s *storm) create(pods []*corev1.Pod) {
	s.t.Helper()
	s.parallel(len(pods), func(ctx context.Context, i int) error { return s.TryCreate(ctx, pods[i]) })
}

// waitBound waits until that many pods of a priority class have been bound.
func (s *storm) waitBound(class string, want int) {
	s.t.Helper()
	s.wait(fmt.Sprintf("%d pods of %s priority are bound", want, class), func() int { return s.books.boundOf(class) }, want)
}

// waitReady waits until that many pods are Ready: a pod that is not has not been told to KWOK's kubelets yet.
func (s *storm) waitReady(want int) {
	s.t.Helper()
	s.wait(fmt.Sprintf("%d pods are Ready", want), func() int { return s.books.readyCount() }, want)
}

func (s *storm) wait(what string, count func() int, want int) {
	s.t.Helper()
	s.waitFor(stormTimeout, what, count, want)
}

func (s *storm) waitFor(timeout time.Duration, what string, count func() int, want int) {
	s.t.Helper()
	for deadline := time.Now().Add(timeout); count() != want; time.Sleep(50 * time.Millisecond) {
		if s.t.Failed() || time.Now().After(deadline) {
			s.t.Fatalf("waited for this: %s; %d of %d", what, count(), want)
		}
	}
}

// victims returns the pods of low priority that were evicted, which must all be gone by now.
func (s *storm) victims() map[string]stormPod {
	s.t.Helper()
	var left corev1.PodList
	if err := s.Client.List(s.t.Context(), &left, client.InNamespace("default")); err != nil {
		s.t.Fatal(err)
	}
	gone := s.books.everBound("low")
	for i := range left.Items {
		if left.Items[i].DeletionTimestamp == nil {
			delete(gone, left.Items[i].Name)
		}
	}
	return gone
}

// logDecisionTimes logs how long the scheduler took to decide whom to evict or what to wait for, by its own metrics.
func logDecisionTimes(t *testing.T, lab *harness.Lab) {
	t.Helper()
	for _, metric := range []string{
		`scheduler_framework_extension_point_duration_seconds{extension_point="PostFilter",profile="berth",status="Success"}`,
		`scheduler_scheduling_attempt_duration_seconds{profile="berth",result="unschedulable"}`,
	} {
		h := readHistogram(t, lab, metric)
		t.Logf("%s: %d, mean %.1f ms, median at most %.1f ms, 99 %% at most %.1f ms", metric, h.count, 1e3*h.sum/float64(max(h.count, 1)),
			1e3*h.quantile(0.5), 1e3*h.quantile(0.99))
	}
}
