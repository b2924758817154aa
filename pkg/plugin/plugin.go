// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/utils/clock"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/berthclient"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin/claims"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/faults"
	"github.com/berth-dev/berth/pkg/plugin/feed"
	"github.com/berth-dev/berth/pkg/plugin/follow"
	"github.com/berth-dev/berth/pkg/plugin/history"
	"github.com/berth-dev/berth/pkg/plugin/mix"
	"github.com/berth-dev/berth/pkg/plugin/parked"
	"github.com/berth-dev/berth/pkg/plugin/policies"
	"github.com/berth-dev/berth/pkg/plugin/preempt"
	"github.com/berth-dev/berth/pkg/plugin/recovery"
	"github.com/berth-dev/berth/pkg/plugin/requests"
	"github.com/berth-dev/berth/pkg/plugin/resourceclaims"
	"github.com/berth-dev/berth/pkg/plugin/shared"
	"github.com/berth-dev/berth/pkg/plugin/timers"
	"github.com/berth-dev/berth/pkg/plugin/verdicts"
	"github.com/berth-dev/berth/pkg/plugin/wake"
	"github.com/berth-dev/berth/pkg/plugin/warm"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// Name is the name of the plugin in a KubeSchedulerConfiguration.
const Name = config.Name

// Plugin places pods by the GPU memory that they ask for.
type Plugin struct {
	args   *config.Args
	handle fwk.Handle
	clock  clock.WithDelayedExecution
	// leader says whether this process may write what only a leader may.
	leader *leader.Leader
	// term makes the apiserver refuse what older leaders sent.
	term    *leader.Term
	tracker *gpustate.Tracker
	// world is what all rooms work with.
	world    *shared.World
	requests *requests.Reader
	parked   *parked.List
	// recovery makes the books right.
	recovery *recovery.Recovery
	claims   *claims.Book
	// wake retries pods that wait.
	wake *wake.Waker
	// feed is what the informers tell.
	feed *feed.Feed
	// follow follows what pods claim.
	follow *follow.Follower
	// verdicts says why a pod fits nowhere.
	verdicts verdicts.Reader
	// faults tells of what should not be.
	faults  *faults.Watcher
	evictor *preempt.Evictor
	metrics *pluginMetrics
	// announcer tells the owners of pods that were placed.
	announcer *words.Announcer
	// resourceClaims are of dynamic resource allocation; nil if that is off.
	resourceClaims *resourceclaims.Reader
	// mix knows what is asked for; nil but for the strategy Fragmentation.
	mix *mix.Book
	// warm knows where what pods load was loaded; nil if that is of no weight.
	warm *warm.Book
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
	args, err := config.Decode(obj)
	if err != nil {
		return nil, err
	}
	pl, err := newPlugin(ctx, args, handle, clock.RealClock{}, lead)
	if err != nil {
		return nil, err
	}
	pl.faults.Policies = inForce
	client, err := berthclient.NewReader(handle.KubeConfig())
	if err != nil {
		return nil, err
	}
	pl.term = leader.NewTerm(lead, client, handle.ClientSet().CoreV1().RESTClient(), pl.clock)
	pl.recovery.Term = pl.term
	if err := pl.feed.Start(ctx, client); err != nil {
		return nil, fmt.Errorf("starting the informers of %s: %w", Name, err)
	}
	if err := pl.faults.StartEvacuation(ctx); err != nil {
		return nil, fmt.Errorf("watching for driver upgrades: %w", err)
	}
	pl.faults.StartFaultEvictions(ctx)
	if err := pl.faults.WatchPolicies(ctx, handle.KubeConfig()); err != nil {
		return nil, fmt.Errorf("checking admission policies: %w", err)
	}
	pl.metrics.fleet.Serve(pl.fleetStatus())
	pl.recovery.Synced = pl.feed.Synced
	go pl.recovery.TakeOver(ctx)
	return pl, nil
}

// newPlugin makes the plugin without what feeds it.
func newPlugin(ctx context.Context, args *config.Args, handle fwk.Handle, c clock.WithDelayedExecution, lead *leader.Leader) (*Plugin, error) {
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
		parked:  parked.NewList(),
		metrics: registerMetrics(),
	}
	if len(*args.DRADrivers) > 0 && handle.SharedDRAManager() != nil { // else the apiserver has no such API
		pl.tracker.DRA = gpustate.NewDRA(*args.DRADrivers)
		pl.resourceClaims = resourceclaims.NewReader(handle.SharedDRAManager(), pl.tracker.DRA)
	}
	core := handle.SharedInformerFactory().Core().V1()
	pl.world = &shared.World{
		Args: args, Handle: handle, Clock: c, Tracker: pl.tracker, Nodes: core.Nodes().Lister(), Pods: core.Pods().Lister(), Timers: timers.New(c),
		History: history.New(c),
	}
	pl.requests = &requests.Reader{
		Classes: handle.SharedInformerFactory().Node().V1().RuntimeClasses().Lister(),
		Sizing: gpustate.Sizing{
			TrustObservedPeaks: args.TrustObservedPeaks, EvenShares: args.Limits(),
		},
		Enforcement: args.Enforcement, Exists: pl.world.Exists,
	}
	pl.claims = claims.NewBook(pl.tracker.Ledger)
	pl.wake = wake.New(pl.world, pl.requests, pl.parked, pl.claims)
	pl.verdicts = verdicts.Reader{World: pl.world}
	pl.faults = &faults.Watcher{
		World: pl.world, Wake: pl.wake, Leader: lead, Policies: &policies.State{}, Recovered: func() bool { return pl.recovery.Done() },
		Metrics: faults.Metrics{
			PolicyInForce: pl.metrics.policyInForce, DriverUpgradeEvictions: pl.metrics.driverUpgradeEvictions,
		},
	}
	pl.tracker.Changed = pl.wake.NodeChanged
	pl.tracker.Reshaped = pl.wake.NodeReshaped
	pl.tracker.Rivals = pl.faults.WatchContested
	pl.announcer = words.NewAnnouncer(ctx, c, func(p words.Placement) {
		pl.world.Event(p.Pod, nil, corev1.EventTypeNormal, words.EventAllocated, words.ActionAllocate, p.Note)
	})
	var err error
	if pl.evictor, err = pl.newEvictor(ctx); err != nil {
		return nil, err
	}
	pl.recovery = &recovery.Recovery{
		World: pl.world, Wake: pl.wake, Leader: lead, Recovered: pl.faults.WatchBookings,
		Resolve: func(ctx context.Context, pod *corev1.Pod, node string, last time.Time) {
			pl.resolveUnknown(ctx, pod, node, last, func() {})
		},
	}
	pl.follow = &follow.Follower{
		World: pl.world, Wake: pl.wake, Evictor: pl.evictor, Claims: pl.claims, Dropped: pl.metrics.claimsDropped, EvictionToBind: pl.metrics.evictionToBind,
	}
	if args.Strategy == alloc.Fragmentation {
		pl.mix = mix.NewBook(pl.world, pl.requests)
	}
	if *args.WarmWeight > 0 {
		pl.warm = warm.NewBook(c, pl.world.NodeUID)
	}
	pl.feed = &feed.Feed{World: pl.world, Wake: pl.wake, Follow: pl.follow, Faults: pl.faults, Mix: pl.mix, Warm: pl.warm}
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
		Exists:   pl.world.Exists,
		MayEvict: func() error { return pl.leader.Holds(0) },
		Evicted: func(ctx context.Context, victim *corev1.Pod, reason history.EvictionReason, preemptor klog.KMetadata) {
			pl.world.History.Evicted(ctx, victim, pl.world.BookedFor(victim), reason, preemptor)
			pl.claims.Evicted(victim)
			if !pl.world.Exists(victim) {
				pl.claims.Gone(victim, pl.clock.Now()) // nobody else would: that it is gone may have been told before
			}
		},
		Tell: func(victim *corev1.Pod, preemptor runtime.Object, note string) {
			pl.world.Event(victim, preemptor, corev1.EventTypeNormal, words.EventEvicted, words.ActionEvict, note)
		},
	})
}
