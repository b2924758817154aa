// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package history

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/berth-dev/berth/pkg/alloc"
)

// Log tells what was decided, and counts it. Lines about what changes the cluster have no verbosity, all others -v=2.
type Log struct {
	clock  clock.PassiveClock
	counts *counts

	mu sync.Mutex
	// told is why a pod was refused last, so that a reason which lasts is logged once.
	told map[types.UID]string
}

// New returns a log.
func New(c clock.PassiveClock) *Log {
	return &Log{clock: c, counts: register(), told: map[types.UID]string{}}
}

// Booking is what was booked for a pod, of how many options that could be booked, and of how many that it allows.
type Booking struct {
	Node               string
	Devices            []alloc.DeviceShare
	TensorParallelSize int
	Viable, Options    int
}

// Booked tells that a cycle found a place and booked it.
func (l *Log) Booked(ctx context.Context, pod *corev1.Pod, b *Booking) {
	l.counts.decisions.WithLabelValues(decisionBooked, "").Inc()
	klog.FromContext(ctx).V(2).Info(msgBooked, "pod", klog.KObj(pod), "node", b.Node, "devices", shares(b.Devices),
		"tensorParallelSize", b.TensorParallelSize, "viable", b.Viable, "options", b.Options)
}

// Bound tells that a pod was bound to devices, and after what.
func (l *Log) Bound(ctx context.Context, pod *corev1.Pod, node string, devices []alloc.DeviceShare, after string) {
	waited := max(l.clock.Since(pod.CreationTimestamp.Time).Seconds(), 0)
	l.counts.placements.WithLabelValues(after).Inc()
	l.counts.waited.WithLabelValues(sizeClass(devices)).Observe(waited)
	klog.FromContext(ctx).Info(msgBound, "pod", klog.KObj(pod), "node", node, "devices", shares(devices), "after", after,
		"waitSeconds", waited)
}

// NotBound tells that a pod was not bound to the place that was booked for it.
func (l *Log) NotBound(ctx context.Context, pod *corev1.Pod, node, reason string, err error) {
	l.counts.bindFailures.WithLabelValues(reason).Inc()
	klog.FromContext(ctx).Info(msgNotBound, "pod", klog.KObj(pod), "node", node, "reason", reason, "err", err)
}

// Waits tells that a pod was promised devices that are free once memory is back, and that nobody is evicted for it.
func (l *Log) Waits(ctx context.Context, pod *corev1.Pod, node string, devices []alloc.DeviceShare, awaited string) {
	l.counts.decisions.WithLabelValues(decisionWaiting, "").Inc()
	l.Forget(pod.UID)
	klog.FromContext(ctx).V(2).Info(msgWaits, "pod", klog.KObj(pod), "node", node, "devices", shares(devices), "awaited", awaited)
}

// Plan is whom to evict for a pod.
type Plan struct {
	Node    string
	Devices []alloc.DeviceShare
	Victims []*corev1.Pod
	Frees   alloc.Bytes
	// Cost is by what the victims were compared with others; Exact says that nobody cheaper would do; Message is what the
	// pod's owner is told of it.
	Cost    string
	Exact   bool
	Message string
}

// Evicts tells that others are to be evicted for a pod. Each of them has a line of its own when it was.
func (l *Log) Evicts(ctx context.Context, pod *corev1.Pod, p *Plan) {
	l.counts.decisions.WithLabelValues(decisionEvicting, "").Inc()
	l.Forget(pod.UID)
	klog.FromContext(ctx).Info(msgEvicts, "pod", klog.KObj(pod), "priority", corev1helpers.PodPriority(pod), "node", p.Node,
		"devices", shares(p.Devices), "victims", klog.KObjSlice(p.Victims), "frees", p.Frees.Uint64(), "cost", p.Cost, "exact", p.Exact,
		"message", p.Message)
}

// Dropped tells that a pod does not wait for a node any longer.
func (l *Log) Dropped(ctx context.Context, pod *corev1.Pod, node, reason, message string) {
	klog.FromContext(ctx).V(2).Info(msgDropped, "pod", klog.KObj(pod), "node", node, "reason", reason, "message", message)
}

// Refused tells that a cycle found no place for a pod, once for as long as the reason is the same. It is one of a bounded
// number; message is what the pod's owner is told.
func (l *Log) Refused(ctx context.Context, pod *corev1.Pod, reason, message string) {
	l.counts.decisions.WithLabelValues(decisionRefused, reason).Inc()
	l.Gated(ctx, pod, reason, message)
}

// Gated is Refused for a pod that is kept out of the queue: it has no cycle.
func (l *Log) Gated(ctx context.Context, pod *corev1.Pod, reason, message string) {
	l.mu.Lock()
	again := l.told[pod.UID] == reason
	l.told[pod.UID] = reason
	l.mu.Unlock()
	if !again {
		klog.FromContext(ctx).V(2).Info(msgRefused, "pod", klog.KObj(pod), "reason", reason, "message", message)
	}
}

// Woken counts pods that were put back into the queue.
func (l *Log) Woken(pods int) { l.counts.wakeUps.Add(float64(pods)) }

// Evicted tells that a pod was evicted, and for which one, if any. devices are what was booked for it.
func (l *Log) Evicted(ctx context.Context, pod *corev1.Pod, devices []alloc.DeviceShare, reason EvictionReason, preemptor klog.KMetadata) {
	l.counts.evictions.WithLabelValues(string(reason)).Inc()
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = *s
	}
	klog.FromContext(ctx).Info(msgEvicted, "pod", klog.KObj(pod), "node", pod.Spec.NodeName, "reason", reason,
		"preemptor", klog.KObj(preemptor), "priority", corev1helpers.PodPriority(pod), "gracePeriodSeconds", grace, "devices", shares(devices))
}

// Forget forgets why a pod was refused, when it is not any more, or is gone.
func (l *Log) Forget(pod types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.told, pod)
}

// share is a device in a line of the log, with memory in bytes.
type share struct {
	UUID   string `json:"uuid"`
	Memory uint64 `json:"memory"`
}

func shares(devices []alloc.DeviceShare) []share {
	out := make([]share, len(devices))
	for i, d := range devices {
		out[i] = share{d.UUID, d.Memory.Uint64()}
	}
	return out
}
