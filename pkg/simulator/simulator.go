// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/features"
	"k8s.io/kubernetes/pkg/scheduler"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"

	"github.com/berth-dev/berth/pkg/plugin"
)

// Options are what can be chosen of a simulation.
type Options struct {
	// Timing is how long things take; zero = DefaultTiming.
	Timing Timing
	// Args replaces arguments of the plugin, by their names in BerthArgs.
	Args map[string]any
	// Bare simulates where pods are placed, and nothing else: a pod is Ready as soon as it is bound, no agent measures what it
	// takes, and no Event is kept.
	Bare bool
	// OnlyBerth lets the plugin alone score nodes, instead of all plugins of the profile.
	OnlyBerth bool
}

// Simulator is a scheduler on a snapshot. It is not safe for concurrent use.
type Simulator struct {
	ctx     context.Context
	clock   *virtualClock
	start   time.Time
	world   *world
	api     *api
	kubelet *kubelet
	agent   *agent
	claims  *claims
	events  recorder

	sched  *scheduler.Scheduler
	plugin *plugin.Plugin
	cycle  *cycle
	// pending are the pods that are on no node, and history is what became of those that had a cycle.
	pending map[types.UID]*corev1.Pod
	history map[types.UID]*history
	// deletions counts the pods that are gone.
	deletions int
	// evictedBy says for whom a pod was evicted.
	evictedBy map[types.NamespacedName]*corev1.Pod
	notes     []string
	// explaining is the pod whose next cycle is explained; none = nobody's. explained is what is found.
	explaining types.UID
	explained  *Explanation
}

// cycle is the scheduling cycle that is under way, with its binding.
type cycle struct {
	pod      *corev1.Pod
	state    fwk.CycleState
	reserved bool
	failed   bool
	ended    chan struct{}
	end      func()
}

func newCycle() *cycle {
	c := &cycle{ended: make(chan struct{})}
	c.end = sync.OnceFunc(func() { close(c.ended) })
	return c
}

// history is what became of a pod.
type history struct {
	victims []*corev1.Pod
	// failure is how its last cycle failed; nil if it did not.
	failure *failure
	boundAt time.Time
	// cycles counts its cycles, and tries those at one moment, when.
	cycles int
	tries  int
	when   time.Time
}

type failure struct {
	status *fwk.Status
	state  fwk.CycleState
	// erred says that it was an error, not that there is no place.
	erred bool
}

// fit returns what the framework says of each node; nil if it was an error, or there are no nodes.
func (f *failure) fit() *framework.FitError {
	fit, _ := f.status.AsError().(*framework.FitError)
	return fit
}

// New returns a simulator of a snapshot, whose objects are the simulator's from then on. It ends with ctx.
func New(ctx context.Context, snapshot *Snapshot, o Options) (*Simulator, error) {
	if len(snapshot.Missing) > 0 {
		return nil, &ErrMissing{snapshot.Missing}
	}
	if o.Timing == (Timing{}) {
		o.Timing = DefaultTiming
	}
	if err := utilfeature.DefaultMutableFeatureGate.Set(string(features.SchedulerAsyncPreemption) + "=false"); err != nil {
		return nil, err
	}
	config, notes, err := readConfig(snapshot.Config, o.Args, o.OnlyBerth)
	if err != nil {
		return nil, err
	}
	s := &Simulator{
		ctx: klog.NewContext(ctx, klog.Logger{}), clock: newClock(snapshot.Time), start: snapshot.Time,
		evictedBy: map[types.NamespacedName]*corev1.Pod{},
		cycle:     newCycle(), pending: map[types.UID]*corev1.Pod{}, history: map[types.UID]*history{},
		events: recorder{of: map[types.UID][]Event{}}, notes: append(notes, snapshot.Notes...),
	}
	if o.Bare {
		s.events.of = nil
	}
	s.world = newWorld(s.clock)
	s.agent = &agent{world: s.world}
	s.claims = newClaims(s.world, snapshot.Objects)
	s.kubelet = &kubelet{world: s.world, agent: s.agent, claims: s.claims, timing: o.Timing, atOnce: o.Bare}
	s.api = &api{world: s.world, kubelet: s.kubelet, evicted: s.evicted}
	if err := s.newScheduler(config); err != nil {
		return nil, err
	}
	return s, s.load(snapshot.Objects)
}

// newScheduler makes the scheduler as cmd/scheduler does, but for where it lives.
func (s *Simulator) newScheduler(config *schedulerconfig.KubeSchedulerConfiguration) error {
	client, err := kubernetes.NewForConfig(s.api.config())
	if err != nil {
		return err
	}
	informers := newFactory(client, s.world)
	registry := frameworkruntime.Registry{
		probeName: func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error) { return probe{s}, nil },
		plugin.Name: func(ctx context.Context, args runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
			if s.plugin != nil {
				return nil, fmt.Errorf("only one profile can have the plugin %s", plugin.Name)
			}
			s.plugin, err = plugin.NewIn(ctx, args, handle, plugin.World{
				Clock: s.clock, InformerOf: s.world.standalone, Later: s.world.doLater,
			})
			return s.plugin, err
		},
	}
	s.sched, err = scheduler.New(s.ctx, client, informers, nil, func(string) events.EventRecorderLogger { return s.events },
		scheduler.WithComponentConfigVersion(config.APIVersion),
		scheduler.WithKubeConfig(s.api.config()),
		scheduler.WithProfiles(config.Profiles...),
		scheduler.WithPercentageOfNodesToScore(config.PercentageOfNodesToScore),
		scheduler.WithParallelism(config.Parallelism),
		scheduler.WithPodInitialBackoffSeconds(config.PodInitialBackoffSeconds),
		scheduler.WithPodMaxBackoffSeconds(config.PodMaxBackoffSeconds),
		scheduler.WithFrameworkOutOfTreeRegistry(registry),
		scheduler.WithNodeInfoSnapshot(internalcache.NewEmptySnapshot()),
		scheduler.WithClock(s.clock),
	)
	if err != nil {
		return err
	}
	s.sched.NextEntity = s.nextEntity
	handle := s.sched.FailureHandler
	s.sched.FailureHandler = func(ctx context.Context, f framework.Framework, info *framework.QueuedPodInfo, status *fwk.Status, nominating *fwk.NominatingInfo, start time.Time) {
		s.failed(info.Pod, status)
		handle(ctx, f, info, status, nominating, start)
		s.cycle.failed = true
		s.cycle.end()
	}
	_, err = informers.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { s.podSeen(obj.(*corev1.Pod)) },
		UpdateFunc: func(_, obj any) { s.podSeen(obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) { s.deletions++; delete(s.pending, obj.(*corev1.Pod).UID) },
	})
	return err
}

func (s *Simulator) podSeen(pod *corev1.Pod) {
	switch {
	case pod.Spec.NodeName == "":
		s.pending[pod.UID] = pod
	case s.pending[pod.UID] != nil:
		delete(s.pending, pod.UID)
		s.historyOf(pod.UID).boundAt = s.clock.Now()
	}
}

func (s *Simulator) historyOf(uid types.UID) *history {
	h := s.history[uid]
	if h == nil {
		h = &history{}
		s.history[uid] = h
	}
	return h
}

func (s *Simulator) failed(pod *corev1.Pod, status *fwk.Status) {
	f := &failure{status: status, state: s.cycle.state, erred: !status.IsRejected()}
	s.historyOf(pod.UID).failure = f
	s.explain(pod, f)
}

func (s *Simulator) evicted(victim *corev1.Pod) {
	if s.cycle.pod == nil {
		return // the plugin repairs its books: nobody's victim
	}
	h := s.historyOf(s.cycle.pod.UID)
	h.victims = append(h.victims, victim)
	s.evictedBy[types.NamespacedName{Namespace: victim.Namespace, Name: victim.Name}] = s.cycle.pod
}

// load puts what a snapshot has into the world, nodes before pods, and begins.
func (s *Simulator) load(objects []runtime.Object) error {
	s.world.loading = true
	var pods []*corev1.Pod
	for _, obj := range inOrder(objects) {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName == "" {
			pods = append(pods, pod)
			continue
		}
		if err := s.world.put(obj); err != nil {
			return err
		}
	}
	s.agent.takeOver()
	s.kubelet.takeOver()
	sortByAge(pods)
	for _, pod := range pods {
		s.clock.tick()
		if err := s.claims.make(pod); err != nil {
			return err
		}
		if err := s.world.put(pod); err != nil {
			return err
		}
	}
	s.world.loading = false
	return nil
}
