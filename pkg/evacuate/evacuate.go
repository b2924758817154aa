// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package evacuate evicts the pods that hold GPU memory on nodes whose driver is to be replaced. The GPU operator
// evicts only pods that ask for its own resources, and Berth's ask for none of them.
//
// Pods are evicted through the Eviction API, so PodDisruptionBudgets hold; what one refuses is tried again, later each
// time. Nothing is remembered: what has to be done follows from the nodes' labels and the pods that are there.
package evacuate

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// lookAgain is the time between two looks at a node whose driver goes, and between two tries to find out that this
	// process leads now. A Binding that was under way when the label came is found by it.
	lookAgain = 5 * time.Second
	// leastBackoff and mostBackoff bound the time until what was refused is tried again.
	leastBackoff = 2 * time.Second
	mostBackoff  = time.Minute
	// perSecond and atOnce limit evictions over all nodes.
	perSecond = 1
	atOnce    = 8
	// requestTimeout bounds one eviction.
	requestTimeout = 10 * time.Second
)

// Outcome is what became of the try to evict a pod.
type Outcome string

const (
	// Evicted: the pod goes.
	Evicted Outcome = "evicted"
	// Refused: a PodDisruptionBudget does not allow it now.
	Refused Outcome = "refused"
	// Gone: there is no such pod any more.
	Gone Outcome = "gone"
	// Failed: the request failed for another reason.
	Failed Outcome = "failed"
)

// Options are what an Evacuator needs.
type Options struct {
	Client    kubernetes.Interface
	Informers informers.SharedInformerFactory
	// SchedulerName selects the pods.
	SchedulerName string
	// Leading says whether this process may evict now: one that waits for another one to give up its lease may not.
	Leading func() bool
	// Tried is told of each try; err is nil for an eviction.
	Tried func(ctx context.Context, pod *corev1.Pod, outcome Outcome, err error)
	// Clock is the system's if nil.
	Clock clock.WithTicker
}

// Evacuator evicts pods from nodes whose driver is to be replaced.
type Evacuator struct {
	opts   Options
	nodes  corelisters.NodeLister
	pods   corelisters.PodLister
	synced []cache.InformerSynced
	limit  flowcontrol.RateLimiter
	// queue has the names of the nodes to look at.
	queue workqueue.TypedRateLimitingInterface[string]
}

// New returns an Evacuator. It hears of nodes from now on, and acts once it runs.
func New(o Options) (*Evacuator, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	core := o.Informers.Core().V1()
	e := &Evacuator{
		opts: o, nodes: core.Nodes().Lister(), pods: core.Pods().Lister(),
		limit: flowcontrol.NewTokenBucketRateLimiterWithClock(perSecond, atOnce, o.Clock),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](leastBackoff, mostBackoff),
			workqueue.TypedRateLimitingQueueConfig[string]{Clock: o.Clock}),
	}
	registration, err := core.Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { e.nodeSeen(&corev1.Node{}, obj) },
		// A node that is looked at already will be again: its heartbeats must not undo the backoff.
		UpdateFunc: e.nodeSeen,
	})
	if err != nil {
		return nil, err
	}
	e.synced = []cache.InformerSynced{registration.HasSynced, core.Pods().Informer().HasSynced}
	return e, nil
}

func (e *Evacuator) nodeSeen(before, now any) {
	old, ok1 := before.(*corev1.Node)
	node, ok2 := now.(*corev1.Node)
	if ok1 && ok2 && berthv1alpha1.DriverGoes(node.Labels) && !berthv1alpha1.DriverGoes(old.Labels) {
		e.queue.Add(node.Name)
	}
}

// Run evicts until ctx ends.
func (e *Evacuator) Run(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), e.synced...) {
		return
	}
	defer context.AfterFunc(ctx, e.queue.ShutDown)()
	for {
		name, shutdown := e.queue.Get()
		if shutdown {
			return
		}
		e.look(ctx, name)
		e.queue.Done(name)
	}
}

// look evicts what is to be evicted on a node, and sees to it that it is looked at again as long as its driver goes.
func (e *Evacuator) look(ctx context.Context, name string) {
	node, err := e.nodes.Get(name)
	if err != nil || !berthv1alpha1.DriverGoes(node.Labels) {
		e.queue.Forget(name)
		return
	}
	if !e.opts.Leading() {
		e.queue.AddAfter(name, lookAgain)
		return
	}
	left, err := e.evacuate(ctx, node)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Evacuating a node", "node", name)
	}
	if left || err != nil {
		e.queue.AddRateLimited(name)
		return
	}
	e.queue.Forget(name)
	e.queue.AddAfter(name, lookAgain)
}

// evacuate tries to evict each of the node's pods once, and says whether any of them is left.
func (e *Evacuator) evacuate(ctx context.Context, node *corev1.Node) (left bool, err error) {
	pods, err := e.pods.List(labels.Everything())
	if err != nil {
		return false, fmt.Errorf("list pods: %w", err)
	}
	for _, pod := range pods {
		if pod.Spec.NodeName != node.Name || !e.holdsGPUs(pod) {
			continue
		}
		if err := e.limit.Wait(ctx); err != nil {
			return true, nil // this process ends
		}
		if !e.opts.Leading() {
			return true, nil
		}
		outcome, err := Evict(ctx, e.opts.Client, pod)
		if outcome != Gone {
			e.opts.Tried(ctx, pod, outcome, err)
		}
		left = left || outcome == Refused || outcome == Failed
	}
	return left, nil
}

// holdsGPUs says whether a pod is one of the scheduler's, has an allocation, and neither has ended nor is about to.
func (e *Evacuator) holdsGPUs(pod *corev1.Pod) bool {
	_, allocated := pod.Annotations[berthv1alpha1.AnnotationAllocation]
	return allocated && pod.Spec.SchedulerName == e.opts.SchedulerName && pod.DeletionTimestamp == nil &&
		pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// Evict tries once to evict a pod. The error says why not.
func Evict(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))},
	})
	switch {
	case err == nil:
		return Evicted, nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // or another pod of that name by now
		return Gone, err
	case apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause):
		return Refused, err
	}
	return Failed, err
}
