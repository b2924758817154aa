// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// rig is an agent over fakes. It runs in a bubble of synctest, where time passes only while everything waits.
type rig struct {
	*Agent
	client *fakeClient
	reader *fakeReader
	pods   fakeAttributor
}

// newRig starts an agent of one GPU whose end is waited for when the test ends.
func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	r := &rig{client: &fakeClient{}, reader: &fakeReader{}, pods: fakeAttributor{}}
	r.reader.reading = Reading{DriverVersion: "580.159.04", Devices: []Device{gpu(0)}}
	o := Options{NodeName: "n", Reader: r.reader, Attributor: r.pods, Client: r.client}
	if change != nil {
		change(&o)
	}
	// Fakes that the test replaced are used by it too.
	if c, ok := o.Client.(*fakeClient); ok {
		r.client = c
	}
	var err error
	if r.Agent, err = New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if !r.reader.closed {
			t.Error("the reader was not closed")
		}
	})
	wait(100 * time.Millisecond)
	return r
}

// wait lets time pass, to a moment at which everything waits.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// setUsed changes the memory that is used on the GPU.
func (r *rig) setUsed(bytes uint64) {
	r.reader.change(func() { r.reader.reading.Devices[0].Memory.Used = bytes })
}

func (r *rig) used() int64 {
	if s := r.client.last(); s != nil && len(s.Devices) > 0 {
		return s.Devices[0].Memory.Used.Value()
	}
	return -1
}

func TestReportIsWrittenOnChangeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		if n := len(r.client.all()); n != 1 {
			t.Fatalf("%d writes at the start, want 1", n)
		}
		for i := range 600 {
			r.setUsed(uint64(i%2) * 60 * mib) // below the quantum
			wait(100 * time.Millisecond)
		}
		if n := len(r.client.all()); n != 1 {
			t.Errorf("%d writes in a minute of small fluctuations, want none", n-1)
		}
		r.setUsed(10 * gib)
		wait(DefaultReadInterval + DefaultReportInterval)
		if n := len(r.client.all()); n != 2 || r.used() != 10*gib {
			t.Errorf("%d writes, used %d", n, r.used())
		}
	})
}

func TestSmallChangesAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		for i := range uint64(11) {
			r.setUsed(i * 10 * mib)
			wait(2 * time.Second)
		}
		// 70Mi is the first that differs by more than 64Mi from what was written.
		if n := len(r.client.all()); n != 2 || r.used() != 70*mib {
			t.Errorf("%d writes, used %d Mi", n, r.used()/mib)
		}
	})
}

func TestReportIsWrittenAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.ReadInterval = 10 * time.Millisecond })
		for i := range uint64(200) {
			r.setUsed(i * gib / 4)
			wait(50 * time.Millisecond)
		}
		wait(2 * time.Second)
		writes := r.client.all()
		if n := len(writes); n < 10 || n > 13 {
			t.Errorf("%d writes in 12 s of change, want one a second", n)
		}
		for i := 1; i < len(writes); i++ {
			if d := writes[i].at.Sub(writes[i-1].at); d < DefaultReportInterval {
				t.Errorf("writes %d and %d are %s apart", i-1, i, d)
			}
		}
		if r.used() != 199*gib/4 {
			t.Errorf("the last write is not of the newest state: %d", r.used())
		}
	})
}

func TestNewestStateIsWrittenAfterTheAPIServerWasDown(t *testing.T) {
	for _, tc := range []struct {
		name string
		// applied says that the requests that failed took effect all the same.
		applied bool
	}{{"requests failed", false}, {"answers were lost", true}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				r.client.set(true, tc.applied)
				r.setUsed(gib)
				wait(30 * time.Second)
				r.setUsed(2 * gib)
				wait(30 * time.Second)
				// The state goes back to what was last written for certain; what is stored may be another one.
				r.setUsed(0)
				wait(10 * time.Second)
				tries := r.client.tries
				r.client.set(false, false)
				wait(3 * time.Second)
				if r.used() != 0 {
					t.Errorf("used is %d, want the newest, 0", r.used())
				}
				// Retries are 0.25 s apart at first and then at most 2 s, and not closer than writes are.
				if tries < 20 || tries > 72 {
					t.Errorf("%d tries in 70 s", tries)
				}
			})
		})
	}
}

func TestReportIsMadeAgainWhenItIsDeletedOrChanged(t *testing.T) {
	for name, tamper := range map[string]func(*fakeClient){
		"deleted": func(c *fakeClient) { c.node = nil },
		"changed": func(c *fakeClient) { c.node.ResourceVersion = "changed"; c.node.Status.Devices = nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				r.client.mu.Lock()
				tamper(r.client)
				r.client.mu.Unlock()
				wait(10 * time.Second)
				if gn, err := r.client.Report(t.Context()); err != nil || len(gn.Status.Devices) != 1 {
					t.Errorf("got %v, %v", gn, err)
				}
			})
		})
	}
}

func TestLeaseIsRenewedEvery10s(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		wait(time.Minute)
		renewals := r.client.renewals()
		if n := len(renewals); n < 6 || n > 7 {
			t.Errorf("%d renewals in a minute", n)
		}
	})
}

// refusingClient is an API server that takes Leases but not reports, as when a report breaks the schema.
type refusingClient struct{ *fakeClient }

func (c refusingClient) Apply(ctx context.Context, s *berthv1alpha1.GPUNodeStatus) (string, error) {
	if len(s.Devices) != 1 {
		return "", errDown
	}
	return c.fakeClient.Apply(ctx, s)
}

func TestLeaseIsNotRenewedWhileTheReportIsNotTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &fakeClient{}
		r := newRig(t, func(o *Options) { o.Client = refusingClient{client} })
		r.client = client
		wait(30 * time.Second)
		before := len(client.renewals())
		if before < 3 {
			t.Fatalf("%d renewals in 30 s", before)
		}
		r.reader.change(func() { r.reader.reading.Devices = append(r.reader.reading.Devices, gpu(1)) })
		wait(30 * time.Second)
		between := len(client.renewals())
		wait(5 * time.Minute)
		if after := len(client.renewals()); after != between || after > before+2 {
			t.Errorf("%d renewals while the report could not be written", after-before)
		}
	})
}

func TestTheAgentIsReadyOnceItsReportIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) {
			o.Client = refusingClient{&fakeClient{}}
			o.Reader.(*fakeReader).reading.Devices = nil // refused
		})
		wait(time.Minute)
		if r.Ready() == nil {
			t.Error("ready without a report")
		}
		r.reader.change(func() { r.reader.reading.Devices = []Device{gpu(0)} })
		wait(time.Minute)
		if err := r.Ready(); err != nil {
			t.Errorf("not ready with a report: %v", err)
		}
	})
}

func TestReadingThatHangsMakesTheDevicesUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		hang := make(chan struct{})
		r.reader.change(func() { r.reader.hang = hang })
		wait(stuckAfter + DefaultLeaseInterval + 2*time.Second)
		if d := r.client.last().Devices[0]; d.Reason != ReasonDriverUnavailable {
			t.Errorf("reason %q", d.Reason)
		}
		if err := r.Healthy(); err != nil {
			t.Errorf("unhealthy too soon: %v", err)
		}
		wait(2 * time.Minute)
		if r.Healthy() == nil {
			t.Error("still healthy after two minutes without a reading")
		}
		r.reader.change(func() { r.reader.hang = nil })
		close(hang)
		wait(3 * time.Second)
		if d := r.client.last().Devices[0]; d.Health != berthv1alpha1.DeviceHealthy {
			t.Errorf("reason %q after the reading returned", d.Reason)
		}
	})
}

func TestOneFailedReadingIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.reader.change(func() { r.reader.err = errDown })
		wait(DefaultReadInterval)
		r.reader.change(func() { r.reader.err = nil })
		wait(10 * time.Second)
		if n := len(r.client.all()); n != 1 {
			t.Errorf("%d writes, want none for a reading that failed once", n-1)
		}
		r.reader.change(func() { r.reader.err = errDown })
		wait(2*DefaultReadInterval + DefaultReportInterval)
		if d := r.client.last().Devices[0]; d.Reason != ReasonDriverUnavailable {
			t.Errorf("reason %q", d.Reason)
		}
	})
}

func TestStaleLibraryEndsTheAgentWithTheDevicesUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, reader := &fakeClient{}, &fakeReader{}
		reader.reading.Devices = []Device{gpu(0)}
		a, err := New(Options{NodeName: "n", Reader: reader, Attributor: fakeAttributor{}, Client: client})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- a.Run(t.Context()) }()
		wait(5 * time.Second)
		reader.change(func() { reader.err = ErrLibraryReplaced })
		if err := <-done; err != ErrLibraryReplaced { //nolint:errorlint // it is passed on as it is
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRestartTakesOverTheLastReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idle := metav1.NewTime(time.Now().Add(-time.Hour)).Rfc3339Copy()
		d := gpu(0)
		d.Processes = []Process{{PID: 1, Memory: gib}, {PID: 2, Memory: gib}}
		last := statusOf(&Reading{Devices: []Device{d}}, &owners{pods: map[int]types.UID{1: "idle", 2: "busy"}})
		for i := range last.Devices[0].Processes {
			p := &last.Devices[0].Processes[i]
			p.Active, p.LastActiveTime = p.PodUID == "busy", nil
			if !p.Active {
				p.LastActiveTime = &idle
			}
		}
		client := &fakeClient{node: &berthv1alpha1.GPUNode{Status: *last}}
		r := newRig(t, func(o *Options) {
			o.Client, o.Attributor = client, fakeAttributor{1: "idle", 2: "busy"}
			o.Reader.(*fakeReader).err = errDown
		})
		wait(5 * time.Second)
		if got := r.client.last().Devices; len(got) != 1 || got[0].Reason != ReasonDriverUnavailable {
			t.Fatalf("without a driver, the devices of the last report are %+v", got)
		}
		r.reader.change(func() {
			d.Processes[1].Active = true
			r.reader.err, r.reader.reading.Devices = nil, []Device{d}
		})
		wait(5 * time.Second)
		for _, p := range r.client.last().Devices[0].Processes {
			switch {
			case p.PodUID == "busy" && !p.Active:
				t.Error("the busy pod is not active")
			case p.PodUID == "idle" && (p.Active || !p.LastActiveTime.Equal(&idle)):
				t.Errorf("the idle pod is active %t since %s, want since %s", p.Active, p.LastActiveTime, idle)
			}
		}
	})
}

// jumpingClock is a real clock whose wall time can be set.
type jumpingClock struct {
	clock.RealClock
	offset func() time.Duration
}

func (c jumpingClock) Now() time.Time                  { return time.Now().Round(0).Add(c.offset()) }
func (c jumpingClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

func TestClockJumpsChangeNothing(t *testing.T) {
	for _, jump := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var offset time.Duration
				r := newRig(t, func(o *Options) {
					reader := o.Reader.(*fakeReader)
					o.Clock = jumpingClock{offset: func() time.Duration {
						reader.mu.Lock()
						defer reader.mu.Unlock()
						return offset
					}}
					o.Attributor = fakeAttributor{1: "busy"}
					d := gpu(0)
					d.Processes = []Process{{PID: 1, Memory: gib, Active: true}}
					reader.reading.Devices = []Device{d}
				})
				wait(5 * time.Second)
				r.reader.change(func() { offset = jump })
				wait(3 * time.Second)
				r.setUsed(20 * gib)
				wait(3 * time.Second)
				if r.used() != 20*gib {
					t.Errorf("used is %d, %s after the change", r.used(), 3*time.Second)
				}
				renewed := len(r.client.renewals())
				wait(30 * time.Second)
				if n := len(r.client.renewals()); n < renewed+2 {
					t.Errorf("%d renewals in 30 s", n-renewed)
				}
				for i, w := range r.client.all() {
					for _, d := range w.status.Devices {
						if d.Health != berthv1alpha1.DeviceHealthy || !d.Processes[0].Active {
							t.Errorf("write %d is wrong: %+v", i, d)
						}
					}
				}
			})
		})
	}
}

// fakeAssignments are the devices that the kubelet gave away.
type fakeAssignments struct {
	mu      sync.Mutex
	devices map[string][]types.NamespacedName
	err     error
}

func (a *fakeAssignments) Assigned(context.Context) (map[string][]types.NamespacedName, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.devices, a.err
}

func (a *fakeAssignments) set(devices map[string][]types.NamespacedName, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.devices, a.err = devices, err
}

func TestDevicesThatTheKubeletGaveAwayAreAssigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		assignments := &fakeAssignments{devices: map[string][]types.NamespacedName{
			gpu(0).UUID: {{Namespace: "ns", Name: "train"}},
			gpu(1).UUID: {{Namespace: "ns", Name: "not-seen-yet"}},
			gpu(2).UUID: {{Namespace: "ns", Name: "again"}},
		}}
		again := types.NamespacedName{Namespace: "ns", Name: "again"}
		r := newRig(t, func(o *Options) {
			o.Assignments = assignments
			o.Names = fakeNames{"9e01": {Namespace: "ns", Name: "train"}, "a-before": again, "b-now": again}
			o.Reader.(*fakeReader).reading.Devices = []Device{gpu(0), gpu(1), gpu(2)}
		})
		got := func() []types.UID {
			var uids []types.UID
			for _, d := range r.client.last().Devices {
				uids = append(uids, d.AssignedTo)
			}
			return uids
		}
		// A pod that is not known yet holds its device all the same, and of two that had a name, either may.
		if g := got(); g[0] != "9e01" || g[1] != "ns/not-seen-yet" {
			t.Errorf("assigned to %q", g)
		}
		if diff := cmp.Diff([]types.UID{"a-before", "b-now"}, r.client.last().Devices[2].AssignedPods); diff != "" {
			t.Errorf("pods of one name (-want +got):\n%s", diff)
		}
		if why := r.client.last().AssignmentsUnknown; why != "" {
			t.Errorf("not known: %s", why)
		}
		assignments.set(assignments.devices, errDown)
		wait(time.Minute)
		if g := got(); g[0] != "9e01" {
			t.Errorf("assigned to %q after the kubelet stopped answering", g)
		}
		if why := r.client.last().AssignmentsUnknown; why != assignmentsNotAnswered {
			t.Errorf("after a minute without an answer: %q", why)
		}
		assignments.set(nil, nil)
		wait(assignmentsInterval + 2*time.Second)
		if g := got(); g[0] != "" || g[1] != "" {
			t.Errorf("assigned to %q after the devices came back", g)
		}
		if why := r.client.last().AssignmentsUnknown; why != "" {
			t.Errorf("not known though the kubelet answers: %s", why)
		}
	})
}
