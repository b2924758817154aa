// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Defaults of Options.
const (
	// DefaultReadInterval is half of what a change may take to be seen by the scheduler; the other half is the
	// ReportInterval.
	DefaultReadInterval   = 500 * time.Millisecond
	DefaultReportInterval = time.Second
	DefaultLeaseInterval  = 10 * time.Second
	DefaultQuantum        = 64 << 20
	DefaultActivityHold   = 2 * time.Second
)

const (
	// releasedReadInterval leaves the driver alone for long enough that a tool that resets or repartitions a GPU
	// finds it unused, and is still short enough for the report to be at most 3 s old.
	releasedReadInterval = 2 * time.Second
	// stuckAfter is how long a reading may take before the driver counts as unavailable.
	stuckAfter = 10 * time.Second
	// failuresTolerated is how many readings in a row may fail before the devices are reported as unavailable.
	failuresTolerated = 1
)

// Options are the parts and the settings of an Agent.
type Options struct {
	// NodeName is the name of the Node, and of its GPUNode and Lease.
	NodeName string
	// Reader reads the GPUs.
	Reader Reader
	// Attributor finds the pods of processes.
	Attributor Attributor
	// Client writes the report.
	Client Client

	// Assignments tells which devices the kubelet gave away; nil if nothing does.
	Assignments Assignments
	// Names knows the names of the node's pods; nil if nothing does.
	Names Names
	// Runtimes tells by the node's files how container runtimes can be told GPUs; nil if nothing does.
	Runtimes Runtimes
	// LimitsFail says why containers with a memory limit do not start on this node, whatever its toolkit and driver can do;
	// empty if nothing of the node is known to be in the way.
	LimitsFail string
	// Specification is kept for nodes without a runtime handler of NVIDIA's; nil on all others.
	Specification Specification

	// Clock tells the time, and is the real one if nil.
	Clock clock.WithTicker
	// ReadInterval is the time between two readings.
	ReadInterval time.Duration
	// ReportInterval is the least time between two writes of the report.
	ReportInterval time.Duration
	// LeaseInterval is the time between two renewals of the Lease.
	LeaseInterval time.Duration
	// Quantum is by how many bytes memory has to change to be reported.
	Quantum int64
	// ActivityHold is for how long a pod stays active after it was last seen computing.
	ActivityHold time.Duration
}

// Agent reports the GPUs of one node.
type Agent struct {
	opts      Options
	publisher *publisher
	tracker   *activityTracker
	idling    *idleTracker
	counters  counters

	// assigned and assignedAt are the observer's alone, as is failures.
	assigned   map[string][]types.UID
	assignedAt time.Time
	// answeredAt is when the kubelet last said what it gave away.
	answeredAt time.Time
	failures   int
	nri        nri

	mu sync.Mutex
	// runtimes and runtimesChanged are what Options.Runtimes said last.
	runtimes        []berthv1alpha1.RuntimeHandOff
	runtimesChanged time.Time
	// status is the newest one.
	status *berthv1alpha1.GPUNodeStatus
	// idle is for how long pods had been idle at the reading that status is of; nil while the devices are unavailable.
	idle map[types.UID]time.Duration
	// readAt is when a reading last ended, well or not.
	readAt time.Time
}

// New returns an agent. It fails if a part is missing.
func New(o Options) (*Agent, error) {
	if o.NodeName == "" || o.Reader == nil || o.Attributor == nil || o.Client == nil {
		return nil, errors.New("an agent needs a node name, a reader, an attributor and a client")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	setDefault(&o.ReadInterval, DefaultReadInterval)
	setDefault(&o.ReportInterval, DefaultReportInterval)
	setDefault(&o.LeaseInterval, DefaultLeaseInterval)
	setDefault(&o.Quantum, DefaultQuantum)
	setDefault(&o.ActivityHold, DefaultActivityHold)
	a := &Agent{opts: o, tracker: newActivityTracker(o.ActivityHold), idling: newIdleTracker(), readAt: o.Clock.Now()}
	a.publisher = newPublisher(&o, &a.counters)
	return a, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Once returns the report of one reading. Whether processes are active takes two, so that it is not in it.
func Once(ctx context.Context, r Reader, attributor Attributor, c clock.PassiveClock) (*berthv1alpha1.GPUNodeStatus, error) {
	reading, err := r.Read(ctx)
	if err != nil {
		return nil, err
	}
	for i := range reading.Devices {
		reading.Devices[i].ActivityMeasured = false
	}
	o := owners{pods: attributor.Attribute(reading.pids())}
	return newStatus(reading, &o, newActivityTracker(DefaultActivityHold), c.Now()), nil
}

// Run reports until ctx ends, and then returns nil; it returns ErrStaleLibrary when only a new process can go on.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx = klog.NewContext(ctx, klog.LoggerWithValues(klog.FromContext(ctx), "node", a.opts.NodeName))

	var wg sync.WaitGroup
	wg.Go(func() { a.publisher.run(ctx) })
	wg.Go(func() { a.renewLease(ctx) })
	if a.opts.Runtimes != nil {
		a.readRuntimes(ctx)
		wg.Go(func() { a.watchRuntimes(ctx) })
	}
	err := a.observeUntilDone(ctx)
	cancel()
	wg.Wait()
	return err
}

// observeUntilDone reads again and again. Its first act is to take over what an earlier process reported.
func (a *Agent) observeUntilDone(ctx context.Context) error {
	a.takeOver(ctx)
	for {
		interval := a.opts.ReadInterval
		reading, err := a.read(ctx)
		switch {
		case ctx.Err() != nil:
			return a.opts.Reader.Close()
		case errors.Is(err, ErrStaleLibrary):
			a.setUnavailable()
			return err
		case err != nil:
			a.failed(ctx, err)
		default:
			if reading.Released {
				interval = max(interval, releasedReadInterval)
			}
			a.observed(ctx, reading)
		}
		if !sleep(ctx, a.opts.Clock, interval) {
			return a.opts.Reader.Close()
		}
	}
}

// takeOver starts from the report of the process before this one: its devices, should the driver be gone now, and
// since when pods are idle. That there is none, or no answer, changes nothing.
func (a *Agent) takeOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	gn, err := a.opts.Client.Report(ctx)
	if err != nil {
		if !apierrors.IsNotFound(err) && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Earlier report not read, starting without it")
		}
		return
	}
	for i := range gn.Status.Devices {
		d := &gn.Status.Devices[i]
		for _, p := range d.Processes {
			switch {
			case p.PodUID == "":
			case p.Active:
				a.tracker.seed(podOnDevice{d.UUID, p.PodUID}, true, a.opts.Clock.Now())
			case p.LastActiveTime != nil:
				a.tracker.seed(podOnDevice{d.UUID, p.PodUID}, false, p.LastActiveTime.Time)
			}
		}
	}
	if gn.Status.HandOff != nil {
		gn.Status.HandOff.Shown = nil // the controller's to say
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = &gn.Status
}

func (a *Agent) read(ctx context.Context) (*Reading, error) {
	start := a.opts.Clock.Now()
	reading, err := a.opts.Reader.Read(ctx)
	a.mu.Lock()
	a.readAt = a.opts.Clock.Now()
	a.mu.Unlock()
	a.counters.reads.Add(1)
	a.counters.readNanos.Add(int64(a.opts.Clock.Since(start)))
	return reading, err
}

// observed turns a reading into the newest status.
func (a *Agent) observed(ctx context.Context, r *Reading) {
	if a.failures > 0 {
		klog.FromContext(ctx).Info("GPUs readable again", "failures", a.failures, "devices", len(r.Devices))
		a.failures = 0
	}
	o := owners{pods: a.opts.Attributor.Attribute(r.pids())}
	o.assigned, o.assignedUnknown = a.assignments(ctx)
	now := a.opts.Clock.Now()
	s := newStatus(r, &o, a.tracker, now)
	idle := a.idling.observe(s, r.unlisted(), now)
	a.nri.update(a, r)
	s.HandOff = a.handOff(r)
	a.logHealth(ctx, r)
	a.setStatus(s, idle)
}

// failed takes a reading that gave nothing. One alone is not believed: the driver may just be busy.
func (a *Agent) failed(ctx context.Context, err error) {
	a.failures++
	a.counters.readErrors.Add(1)
	if a.failures <= failuresTolerated && a.newest() != nil {
		return
	}
	if a.failures == failuresTolerated+1 || a.failures == 1 {
		klog.FromContext(ctx).Error(err, "GPUs cannot be read, waiting for the driver")
	}
	a.setUnavailable()
}

// setUnavailable makes the report one of devices that cannot be read.
func (a *Agent) setUnavailable() { a.setStatus(unavailable(a.newest(), a.opts.Clock.Now()), nil) }

func (a *Agent) newest() *berthv1alpha1.GPUNodeStatus {
	s, _ := a.newestWithIdle()
	return s
}

func (a *Agent) newestWithIdle() (*berthv1alpha1.GPUNodeStatus, map[types.UID]time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status, a.idle
}

func (a *Agent) setStatus(s *berthv1alpha1.GPUNodeStatus, idle map[types.UID]time.Duration) {
	a.mu.Lock()
	a.status, a.idle = s, idle
	a.mu.Unlock()
	a.publisher.set(s)
}

// renewLease renews the Lease while the report is true: what is written is what was last seen, not long ago.
func (a *Agent) renewLease(ctx context.Context) {
	const lookAgain = time.Second
	retry := firstRetry
	for {
		wait := lookAgain
		a.watchReader(ctx)
		if a.publisher.inSync(stuckAfter) {
			err := a.renewOnce(ctx)
			if err == nil {
				wait, retry = a.opts.LeaseInterval, firstRetry
			} else if ctx.Err() == nil {
				wait, retry = retry, min(2*retry, a.opts.LeaseInterval)
				a.counters.leaseErrors.Add(1)
				klog.FromContext(ctx).Error(err, "Lease not renewed, trying again", "retryAfter", wait)
			}
		}
		if !sleep(ctx, a.opts.Clock, wait) {
			return
		}
	}
}

func (a *Agent) renewOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return a.opts.Client.RenewLease(ctx, a.opts.Clock.Now())
}

// watchReader reports the devices as unavailable while a reading does not return: a call into a driver whose GPU
// fell off the bus can hang for good, and nothing can end it.
func (a *Agent) watchReader(ctx context.Context) {
	a.mu.Lock()
	stuck := a.opts.Clock.Since(a.readAt) > stuckAfter
	a.mu.Unlock()
	if stuck {
		klog.FromContext(ctx).Info("A reading does not return, the driver hangs")
		a.setUnavailable()
	}
}

// Status returns the newest report; nil before the first.
func (a *Agent) Status() *berthv1alpha1.GPUNodeStatus { return a.newest() }
