// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/berth-dev/berth/pkg/lab/gpusim"
)

// agentRestart is how long after its end an agent is started again.
const agentRestart = time.Second

const (
	// createParallelism is how many nodes are created at once.
	createParallelism = 16
	// startParallelism is how many agents write their first report at once. Thousands together would have the
	// apiserver time out, and then all try again.
	startParallelism = 16
)

// startNodes creates the simulated nodes and runs an agent for each Node that has simulated GPUs, also for those that
// users of the lab make later.
func (l *Lab) startNodes(ctx context.Context) error {
	if l.opts.Bare {
		return nil
	}
	f := &fleet{lab: l, starting: make(chan struct{}, startParallelism), nodes: map[string]*simulatedNode{}}
	if err := f.watch(ctx); err != nil {
		return err
	}
	l.fleet = f
	var creating errgroup.Group
	creating.SetLimit(createParallelism)
	for _, node := range l.opts.Nodes {
		creating.Go(func() error {
			_, err := l.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
			return err
		})
	}
	if err := creating.Wait(); err != nil {
		return fmt.Errorf("create node: %w", err)
	}
	l.progress("%d simulated nodes are created", len(l.opts.Nodes))
	return nil
}

// fleet is the simulated GPUs of all nodes, kept in step with the Nodes and pods of the cluster.
type fleet struct {
	lab *Lab
	// known are the Nodes, and pods are the pods, of the cluster.
	known, pods cache.Store
	// starting holds a token for each agent that has not written its first report.
	starting chan struct{}

	mu    sync.Mutex
	nodes map[string]*simulatedNode
}

// simulatedNode is one node's hardware and the agent that reports it.
type simulatedNode struct {
	hardware *gpusim.Hardware
	stop     context.CancelFunc
	// reported says whether the agent has written a report.
	reported atomic.Bool
}

// watch follows Nodes and pods until the lab stops. It returns when both are known.
func (f *fleet) watch(ctx context.Context) error {
	factory := informers.NewSharedInformerFactory(f.lab.client, 0)
	f.known = factory.Core().V1().Nodes().Informer().GetStore()
	f.pods = factory.Core().V1().Pods().Informer().GetStore()
	nodes, err := factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { f.setNode(obj.(*corev1.Node)) },
		UpdateFunc: func(_, obj any) { f.setNode(obj.(*corev1.Node)) },
		DeleteFunc: func(obj any) { deleted(obj, f.deleteNode) },
	})
	if err != nil {
		return err
	}
	pods, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { f.setPod(obj.(*corev1.Pod)) },
		UpdateFunc: func(_, obj any) { f.setPod(obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) { deleted(obj, f.deletePod) },
	})
	if err != nil {
		return err
	}
	factory.StartWithContext(f.lab.ctx)
	f.lab.running.Go(func() {
		<-f.lab.ctx.Done()
		factory.Shutdown()
	})
	if !cache.WaitForCacheSync(ctx.Done(), nodes.HasSynced, pods.HasSynced) {
		return ctx.Err()
	}
	return nil
}

// deleted calls f with an object that is gone, be it known as such or found missing later.
func deleted[T any](obj any, f func(T)) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	if object, ok := obj.(T); ok {
		f(object)
	}
}

// setNode starts the agent of a Node with GPUs, or changes the hardware of one that is known.
func (f *fleet) setNode(node *corev1.Node) {
	if _, ok := node.Annotations[gpusim.AnnotationGPUs]; !ok {
		return
	}
	spec, err := gpusim.ParseSpec(node.Annotations)
	if err != nil {
		f.lab.progress("node %s: %s", node.Name, err)
		return
	}
	if known := f.hardwareOf(node.Name); known != nil {
		known.Configure(spec)
		return
	}
	ctx, cancel := context.WithCancel(f.lab.ctx)
	simulated := &simulatedNode{hardware: gpusim.NewHardware(node.Name, spec, clock.RealClock{}), stop: cancel}
	f.mu.Lock()
	f.nodes[node.Name] = simulated
	f.mu.Unlock()
	// Pods of this node that were seen before the node was.
	for _, obj := range f.pods.List() {
		if pod := obj.(*corev1.Pod); pod.Spec.NodeName == node.Name {
			f.setPod(pod)
		}
	}
	f.lab.running.Go(func() { f.keepAgent(ctx, node, simulated) })
}

// keepAgent runs the agent of a node until ctx ends.
func (f *fleet) keepAgent(ctx context.Context, node *corev1.Node, simulated *simulatedNode) {
	for ctx.Err() == nil {
		select {
		case f.starting <- struct{}{}:
		case <-ctx.Done():
			return
		}
		started := sync.OnceFunc(func() { <-f.starting })
		err := f.lab.runAgent(ctx, node, simulated.hardware, func() {
			simulated.reported.Store(true)
			started()
		})
		started()
		if ctx.Err() != nil {
			return
		}
		// As a DaemonSet would, for instance when the Node was deleted just now.
		f.lab.progress("agent of node %s ended (%v), starting it again", node.Name, err)
		select {
		case <-ctx.Done():
		case <-time.After(agentRestart):
		}
	}
}

// ready says whether a node is Ready and, if it has GPUs, has reported them.
func (f *fleet) ready(node *corev1.Node) bool {
	if _, hasGPUs := node.Annotations[gpusim.AnnotationGPUs]; hasGPUs {
		f.mu.Lock()
		simulated := f.nodes[node.Name]
		f.mu.Unlock()
		if simulated == nil || !simulated.reported.Load() {
			return false
		}
	}
	obj, ok, err := f.known.GetByKey(node.Name)
	return err == nil && ok && slices.ContainsFunc(obj.(*corev1.Node).Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func (f *fleet) deleteNode(node *corev1.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known := f.nodes[node.Name]; known != nil {
		known.stop()
		delete(f.nodes, node.Name)
	}
}

// setPod has the hardware of the pod's node do what the pod does.
func (f *fleet) setPod(pod *corev1.Pod) {
	hardware := f.hardwareOf(pod.Spec.NodeName)
	if hardware == nil {
		return
	}
	use, err := gpusim.UseOf(pod)
	switch {
	case err != nil:
		f.lab.progress("pod %s: %s", klog.KObj(pod), err)
	case use != nil:
		hardware.Run(pod.UID, use)
	default:
		hardware.End(pod.UID)
	}
}

func (f *fleet) deletePod(pod *corev1.Pod) {
	if hardware := f.hardwareOf(pod.Spec.NodeName); hardware != nil {
		hardware.End(pod.UID)
	}
}

// hardwareOf returns the hardware of a node; nil if it has none.
func (f *fleet) hardwareOf(nodeName string) *gpusim.Hardware {
	f.mu.Lock()
	defer f.mu.Unlock()
	if node := f.nodes[nodeName]; node != nil {
		return node.hardware
	}
	return nil
}
