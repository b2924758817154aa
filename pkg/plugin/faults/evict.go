// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/evacuate"
	"github.com/berth-dev/berth/pkg/fleet"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/history"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

const (
	// FaultInterval is how often it is looked who is to be evicted for a fault. What a PodDisruptionBudget refuses is tried again
	// at the next look.
	FaultInterval = 5 * time.Second
	// OveruseGrace is for how long a pod must hold too much: an engine that starts may do so for a moment.
	OveruseGrace = 15 * time.Second
	// FaultBudget pods of the whole cluster are evicted for faults within FaultBudgetInterval, and no more: what looks
	// like hundreds of dead GPUs is more likely to be one driver, or one mistake.
	FaultBudget         = 5
	FaultBudgetInterval = 5 * time.Minute
)

// fault is why a pod is to be evicted.
type fault struct {
	entry *gpustate.Entry
	cause history.EvictionReason
	what  string
	since time.Time
}

// faultEvictions is what is remembered from one look to the next. A new leader begins anew: it evicts later, never too early.
type faultEvictions struct {
	mu sync.Mutex
	// since is from when on each fault was seen at every look.
	since map[faultKey]time.Time
	// evicted are the pods that were evicted last, and refused is of which faults it was told that a budget is in the way.
	evicted map[types.UID]time.Time
	refused map[faultKey]bool
}

type faultKey struct {
	pod   types.UID
	cause history.EvictionReason
}

// allows says whether the budget has an eviction left.
func (f *faultEvictions) allows(now time.Time) bool {
	maps.DeleteFunc(f.evicted, func(_ types.UID, at time.Time) bool { return now.Sub(at) >= FaultBudgetInterval })
	return len(f.evicted) < FaultBudget
}

// StartFaultEvictions evicts pods whose GPU is lost, or that hold too much, until ctx ends, as the arguments and the pods say.
func (w *Watcher) StartFaultEvictions(ctx context.Context) {
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.Clock.After(FaultInterval):
				w.LookForFaults(ctx)
			}
		}
	}()
}

// LookForFaults looks once.
func (w *Watcher) LookForFaults(ctx context.Context) {
	w.evictions.mu.Lock()
	defer w.evictions.mu.Unlock()
	if !w.Leader.Leading() || !w.Recovered() {
		w.evictions.since = nil
		return
	}
	now := w.Clock.Now()
	for _, f := range w.due(now) {
		if _, goes := w.evictions.evicted[f.entry.UID]; goes {
			continue // the informer has not told yet
		}
		if !w.evictions.allows(now) {
			klog.FromContext(ctx).V(2).Info("Evicts nobody more for faults of GPUs now", "budget", FaultBudget, "interval", FaultBudgetInterval, "next", klog.KObj(f.entry.Pod))
			return
		}
		if w.Leader.Holds(w.Args.BindTimeout.Duration) != nil {
			return
		}
		w.evictFor(ctx, &f, now)
	}
}

// due returns the faults that have lasted long enough, in the order in which pods go: those whose GPU is lost before those
// that hold too much, those that are not Ready before the others, the newest first.
func (w *Watcher) due(now time.Time) (due []fault) {
	seen := map[faultKey]time.Time{}
	for _, node := range w.Tracker.Ledger.Nodes() {
		for _, f := range w.faultsOn(node) {
			key := faultKey{f.entry.UID, f.cause}
			f.since = now
			if before, ok := w.evictions.since[key]; ok {
				f.since = before
			}
			seen[key] = f.since
			grace := OveruseGrace
			if f.cause == history.DeviceLost {
				grace = w.Args.DeviceLostGrace.Duration
			}
			if now.Sub(f.since) >= grace {
				due = append(due, f)
			}
		}
	}
	w.evictions.since = seen
	maps.DeleteFunc(w.evictions.refused, func(key faultKey, _ bool) bool { return seen[key].IsZero() })
	slices.SortFunc(due, func(a, b fault) int {
		return cmp.Or(
			strings.Compare(string(a.cause), string(b.cause)),
			cmp.Compare(readiness(a.entry.Pod), readiness(b.entry.Pod)),
			b.entry.Pod.CreationTimestamp.Compare(a.entry.Pod.CreationTimestamp.Time),
			strings.Compare(a.entry.Namespace+"/"+a.entry.Name, b.entry.Namespace+"/"+b.entry.Name),
		)
	})
	return due
}

func readiness(pod *corev1.Pod) int {
	if gpustate.IsReady(pod) {
		return 1
	}
	return 0
}

// faultsOn returns the pods of a node that are to be evicted if their fault lasts. Only what a fresh report says counts: an
// agent that is silent, a driver that is replaced and a report without any GPU tell of no loss.
func (w *Watcher) faultsOn(node string) (out []fault) {
	report, fresh := w.Tracker.Store.Report(node, w.Tracker.Policy.StaleAfter)
	object, err := w.Nodes.Get(node)
	if report == nil || !fresh || len(report.Devices) == 0 || err != nil || berthv1alpha1.DriverGoes(object.Labels) {
		return nil
	}
	for _, e := range w.Tracker.Ledger.OnNode(node) {
		if e.State != gpustate.Confirmed || e.Allocation == nil || e.Pod.DeletionTimestamp != nil || !w.IsOurs(e.Pod) {
			continue
		}
		if w.evicts(e.Pod, berthv1alpha1.AnnotationOnDeviceLost, w.Args.OnDeviceLost) {
			if what := lossOf(report, e); what != "" {
				out = append(out, fault{entry: e, cause: history.DeviceLost, what: what})
				continue
			}
		}
		if on := report.Overused(e, fleet.Margin); on != 0 && w.evicts(e.Pod, berthv1alpha1.AnnotationOnOveruse, w.Args.OnOveruse) {
			i := bits.TrailingZeros64(on)
			out = append(out, fault{entry: e, cause: history.Overuse, what: fmt.Sprintf("it holds %s on GPU %d (%s), more than it booked",
				report.Measured(e.UID, i), report.Devices[i].Index, report.Devices[i].UUID)})
		}
	}
	return out
}

// evicts says whether a pod is evicted for a fault: it says so itself, or does not say otherwise and has somebody who makes it
// anew. Nobody can evict a static pod.
func (w *Watcher) evicts(pod *corev1.Pod, key string, otherwise berthv1alpha1.FaultAction) bool {
	if _, static := pod.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return false
	}
	if metav1.GetControllerOf(pod) == nil {
		otherwise = berthv1alpha1.ActionIgnore
	}
	return berthv1alpha1.FaultActionOf(pod, key, otherwise) == berthv1alpha1.ActionEvict
}

// lossOf says which device of a pod is lost; empty if none is.
func lossOf(report *gpustate.Report, e *gpustate.Entry) string {
	if on := report.Failed() & report.DevicesOf(e.Allocation); on != 0 {
		i := bits.TrailingZeros64(on)
		return fmt.Sprintf("GPU %d (%s) is unhealthy (%s)", report.Devices[i].Index, report.Devices[i].UUID, report.Unhealthy(i))
	}
	if lost := report.Lost(e.Allocation); len(lost) > 0 {
		return fmt.Sprintf("GPU %s is no longer reported", lost[0].UUID)
	}
	return ""
}

// evictFor tries to evict a pod, and tells its owner.
func (w *Watcher) evictFor(ctx context.Context, f *fault, now time.Time) {
	pod := f.entry.Pod
	why := fmt.Sprintf("%s, for %s by now", f.what, now.Sub(f.since).Round(time.Second))
	event := words.EventEvictedDeviceLost
	if f.cause == history.Overuse {
		event = words.EventEvictedOveruse
	}
	switch outcome, err := evacuate.Evict(ctx, w.Handle.ClientSet(), pod); outcome {
	case evacuate.Evicted:
		if w.evictions.evicted == nil {
			w.evictions.evicted = map[types.UID]time.Time{}
		}
		w.evictions.evicted[pod.UID] = now
		w.History.Evicted(ctx, pod, w.BookedFor(pod), f.cause, nil)
		w.Event(pod, nil, corev1.EventTypeWarning, event, words.ActionEvict, fmt.Sprintf("Evicted from node %s: %s", pod.Spec.NodeName, why))
	case evacuate.Refused:
		key := faultKey{pod.UID, f.cause}
		if w.evictions.refused[key] {
			return
		}
		if w.evictions.refused == nil {
			w.evictions.refused = map[faultKey]bool{}
		}
		w.evictions.refused[key] = true
		w.Event(pod, nil, corev1.EventTypeWarning, words.EventFaultRefused, words.ActionEvict, fmt.Sprintf(
			"To be evicted from node %s, because %s. A PodDisruptionBudget does not allow it, which is tried again: %s", pod.Spec.NodeName, why, err))
	case evacuate.Failed:
		klog.FromContext(ctx).Error(err, "Evicting a pod for a fault of a GPU", "pod", klog.KObj(pod), "node", pod.Spec.NodeName, "why", why)
	}
}
