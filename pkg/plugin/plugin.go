// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/utils/clock"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/berthclient"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin/claims"
	"github.com/berth-dev/berth/pkg/plugin/parked"
	"github.com/berth-dev/berth/pkg/plugin/policies"
	"github.com/berth-dev/berth/pkg/plugin/preempt"
	"github.com/berth-dev/berth/pkg/plugin/requests"
	"github.com/berth-dev/berth/pkg/plugin/resourceclaims"
)

// Name is the name of the plugin in a KubeSchedulerConfiguration.
const Name = "Berth"

// Plugin places pods by the GPU memory that they ask for.
type Plugin struct {
	args   *Args
	handle fwk.Handle
	clock  clock.WithDelayedExecution
	// leader says whether this process may write what only a leader may.
	leader *leader.Leader
	// term makes the apiserver refuse what older leaders sent.
	term     *leader.Term
	tracker  *gpustate.Tracker
	nodes    corelisters.NodeLister
	requests *requests.Reader
	pods     corelisters.PodLister
	parked   *parked.List
	recovery recovery
	claims   *claims.Book
	// overbooked is what should not be, and is repaired.
	overbooked overbooked
	evictor    *preempt.Evictor
	metrics    *pluginMetrics
	// announcer tells the owners of pods that were placed.
	announcer *announcer
	// synced are the informers that the first cycle waits for.
	synced []cache.InformerSynced
	// unlisted are the pods that the queue may hold for a reason of Berth's and parked does not: those that failed after they
	// were given a place, and those without a request whose victims are being evicted. They have hints, and their backoff.
	unlisted podSet
	// claimants are those that are refused because they would get a GPU by a resource claim: no room helps them.
	claimants podSet
	// answers are those to the framework's questions whom an event helps.
	answers answers
	// lost is who was told that a GPU is gone.
	lost lost
	// unreadable is whose report cannot be read.
	unreadable unreadable
	// contested is which GPUs several nodes report.
	contested contested
	// unallocated is who was told that it is bound without an allocation.
	unallocated unallocated
	// resourceClaims are of dynamic resource allocation; nil if that is off.
	resourceClaims *resourceclaims.Reader
	// policies says whether the apiserver enforces what Berth relies on.
	policies *policies.State
	// timers holds the pending wake-ups by what they are for.
	timers timers
	// later runs something that would wait for a lock which the caller's caller holds.
	later func(func())
}

var (
	_ fwk.PreEnqueuePlugin    = &Plugin{}
	_ fwk.EnqueueExtensions   = &Plugin{}
	_ fwk.PreFilterPlugin     = &Plugin{}
	_ fwk.PreFilterExtensions = &Plugin{}
	_ fwk.FilterPlugin        = &Plugin{}
	_ fwk.PostFilterPlugin    = &Plugin{}
	_ fwk.PreScorePlugin      = &Plugin{}
	_ fwk.ScorePlugin         = &Plugin{}
	_ fwk.ReservePlugin       = &Plugin{}
	_ fwk.BindPlugin          = &Plugin{}
	_ fwk.SignPlugin          = &Plugin{}
)

// Name returns the name of the plugin.
func (pl *Plugin) Name() string { return Name }

// NewFor returns what makes the plugin of a process that places pods only while it leads, and that says in inForce which
// admission policies are in force. It makes one only: plugins of two profiles would keep books apart, and each give away
// what the other has booked and not yet bound.
func NewFor(lead *leader.Leader, inForce *policies.State) frameworkruntime.PluginFactory {
	first := ""
	return func(ctx context.Context, obj runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
		if first != "" {
			return nil, fmt.Errorf("only one profile can have the plugin %s, and that of schedulerName %s has it: disable it in that of %s",
				Name, first, handle.ProfileName())
		}
		first = handle.ProfileName()
		return start(ctx, obj, handle, lead, inForce)
	}
}

func start(ctx context.Context, obj runtime.Object, handle fwk.Handle, lead *leader.Leader, inForce *policies.State) (fwk.Plugin, error) {
	args, err := decodeArgs(obj)
	if err != nil {
		return nil, err
	}
	pl, err := newPlugin(ctx, args, handle, clock.RealClock{}, lead)
	if err != nil {
		return nil, err
	}
	pl.policies = inForce
	client, err := berthclient.NewReader(handle.KubeConfig())
	if err != nil {
		return nil, err
	}
	pl.term = leader.NewTerm(lead, client, handle.ClientSet().CoreV1().RESTClient(), pl.clock)
	if err := pl.startInformers(ctx, client); err != nil {
		return nil, fmt.Errorf("starting the informers of %s: %w", Name, err)
	}
	if err := pl.startEvacuation(ctx, pl.leader.Leading); err != nil {
		return nil, fmt.Errorf("watching for driver upgrades: %w", err)
	}
	if err := pl.watchPolicies(ctx, handle.KubeConfig()); err != nil {
		return nil, fmt.Errorf("checking admission policies: %w", err)
	}
	pl.metrics.fleet.Serve(pl.fleetStatus())
	go pl.takeOver(ctx)
	return pl, nil
}

// newPlugin makes the plugin without what feeds it.
func newPlugin(ctx context.Context, args *Args, handle fwk.Handle, c clock.WithDelayedExecution, lead *leader.Leader) (*Plugin, error) {
	headroom := alloc.BytesOfInt64(args.Headroom.Value())
	policy := gpustate.Policy{
		StaleAfter: args.StaleAfter.Duration, LoadTimeout: args.LoadTimeout.Duration, GPUResources: args.GPUResources,
	}
	pl := &Plugin{
		args:    args,
		handle:  handle,
		clock:   c,
		leader:  lead,
		tracker: gpustate.NewTracker(headroom, policy, c),
		nodes:   handle.SharedInformerFactory().Core().V1().Nodes().Lister(),
		pods:    handle.SharedInformerFactory().Core().V1().Pods().Lister(),
		parked:  parked.NewList(),
		metrics: registerMetrics(),
		timers:  timers{clock: c, pending: map[string]*timer{}},
		lost:    lost{told: map[types.UID]uint64{}},

		policies: &policies.State{},
		later:    func(f func()) { go f() },
	}
	if len(*args.DRADrivers) > 0 && handle.SharedDRAManager() != nil { // else the apiserver has no such API
		pl.tracker.DRA = gpustate.NewDRA(*args.DRADrivers)
		pl.resourceClaims = resourceclaims.NewReader(handle.SharedDRAManager(), pl.tracker.DRA)
	}
	pl.requests = &requests.Reader{
		Classes: handle.SharedInformerFactory().Node().V1().RuntimeClasses().Lister(),
		Sizing:  gpustate.Sizing{TrustObservedPeaks: args.TrustObservedPeaks}, Exists: pl.exists,
	}
	pl.claims = claims.NewBook(pl.tracker.Ledger)
	pl.tracker.Changed = pl.nodeChanged
	pl.tracker.Reshaped = pl.nodeReshaped
	pl.tracker.Rivals = pl.watchContested
	pl.announcer = newAnnouncer(ctx, c, func(p placement) {
		pl.event(p.pod, nil, corev1.EventTypeNormal, eventAllocated, actionAllocate, p.note)
	})
	var err error
	if pl.evictor, err = pl.newEvictor(ctx); err != nil {
		return nil, err
	}
	return pl, nil
}

// newEvictor makes what evicts for the plugin.
func (pl *Plugin) newEvictor(ctx context.Context) (*preempt.Evictor, error) {
	return preempt.New(ctx, preempt.World{
		Rules: preempt.Rules{
			Strategy: pl.args.Strategy, LoadTimeout: pl.args.LoadTimeout.Duration, MaxMinRuntime: pl.args.MaxMinRuntime.Duration,
			MemoryReturnTimeout: pl.args.MemoryReturnTimeout.Duration, WaitBeforeEviction: pl.args.WaitBeforeEviction.Duration,
			EvictOtherSchedulers: pl.args.EvictOtherSchedulers,
		},
		Plugin: Name, Handle: pl.handle, Clock: pl.clock, Ledger: pl.tracker.Ledger, Claims: pl.claims,
		Viewer: func() *gpustate.Viewer {
			v, err := pl.viewer()
			if err != nil {
				return nil
			}
			return v
		},
		Exists:   pl.exists,
		MayEvict: func() error { return pl.leader.Holds(0) },
		Evicted: func(victim *corev1.Pod) {
			pl.claims.Evicted(victim)
			if !pl.exists(victim) {
				pl.claims.Gone(victim, pl.clock.Now()) // nobody else would: that it is gone may have been told before
			}
		},
		Tell: func(victim *corev1.Pod, preemptor runtime.Object, note string) {
			pl.event(victim, preemptor, corev1.EventTypeNormal, eventEvicted, actionEvict, note)
		},
	})
}
