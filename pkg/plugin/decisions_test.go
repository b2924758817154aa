// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	logsapi "k8s.io/component-base/logs/api/v1"
	logsjson "k8s.io/component-base/logs/json"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/evacuate"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/history"
)

// logBuffer is where several goroutines log.
type logBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Buffer.Write(p)
	return os.Stderr.Write(p)
}

func (*logBuffer) Sync() error { return nil }

// decisions returns the lines about decisions since it was last called, each as the message and the values of keys.
func (b *logBuffer) decisions(t *testing.T, keys ...string) (out []string) {
	t.Helper()
	b.mu.Lock()
	text := b.String()
	b.Reset()
	b.mu.Unlock()
	for line := range strings.Lines(text) {
		pairs := map[string]any{}
		if err := json.Unmarshal([]byte(line), &pairs); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		message := pairs["msg"].(string)
		if !history.Messages.Has(message) {
			continue
		}
		for _, key := range keys {
			value := pairs[key]
			if pod, ok := value.(map[string]any); ok {
				value = pod["name"]
			}
			if value != nil {
				message += fmt.Sprintf(" %s=%v", key, value)
			}
		}
		out = append(out, message)
	}
	return out
}

// processLog is the log of the process. It is set before there are goroutines: those of a test may still log when it is over.
var processLog = func() *logBuffer {
	b := &logBuffer{}
	klog.SetLogger(b.logger(0))
	return b
}()

func (b *logBuffer) logger(v logsapi.VerbosityLevel) klog.Logger {
	logger, _ := logsjson.NewJSONLogger(v, b, nil, nil)
	return logger
}

// logged is a fixture whose log is read: that of cycles, and, because executors of preemptions have no context of a cycle,
// that of the process.
func logged(t *testing.T) (*fixture, *logBuffer) {
	f := newFixture(t)
	f.ctx = klog.NewContext(f.ctx, processLog.logger(2))
	processLog.decisions(t) // of tests before
	return f, processLog
}

// wantDecisions compares what was logged since it was last asked, in any order: victims are evicted beside the cycle.
func (f *fixture) wantDecisions(what string, b *logBuffer, want ...string) {
	f.t.Helper()
	got := b.decisions(f.t.(*testing.T), "pod", "node", "reason", "after", "preemptor", "cost")
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

func TestAPlacementIsLogged(t *testing.T) {
	f, log := logged(t)
	f.node(bt.MakeNode("n1"), bt.MakeGPUsOf("n1", 1, "80Gi"))
	pod := bt.MakePod("p").Memory("30Gi").Obj()
	f.api.add(pod)
	state := f.reserve(pod, "n1")
	f.wantDecisions("reserved", log, "Booked GPU memory pod=p node=n1")
	if status := f.pl.Bind(f.ctx, state, pod, "n1"); !status.IsSuccess() {
		t.Fatal(status)
	}
	f.wantDecisions("bound", log, "Bound a pod to its GPUs pod=p node=n1 after=room")
}

func TestABindingThatIsRefusedIsLogged(t *testing.T) {
	f, log := logged(t)
	f.node(bt.MakeNode("n1"), bt.MakeGPUsOf("n1", 1, "80Gi"))
	pod := bt.MakePod("p").Memory("30Gi").Obj() // which the API does not have
	state := f.reserve(pod, "n1")
	log.decisions(t)
	if f.pl.Bind(f.ctx, state, pod, "n1").IsSuccess() {
		t.Fatal("it was bound")
	}
	f.wantDecisions("refused", log, "Could not bind a pod to its GPUs pod=p node=n1 reason=refused")
}

func TestAnEvictionIsLoggedWithWhomItIsFor(t *testing.T) {
	f, log := logged(t)
	f.node(bt.MakeNode("n1"), bt.MakeGPUsOf("n1", 1, "80Gi"))
	f.resident("v", "n1", nil, bt.GPUOf("n1", 0)+"=60Gi")
	f.api.add(f.pods[0])
	preemptor := bt.MakePod("p").Memory("50Gi").Priority(100).Obj()
	f.postFilter(preemptor)
	f.wantDecisions("evicted", log,
		"Evicting pods for a pod pod=p node=n1 cost=1 victim (1 active), priority at most 0, 60Gi to reload",
		"Evicted a pod pod=v node=n1 reason=LowerPriority preemptor=p")
	f.postFilter(preemptor) // which follows its claim
	f.wantDecisions("while it goes", log)
}

func TestOtherEvictionsAreLogged(t *testing.T) {
	f, log := logged(t)
	pod := bt.MakePod("p").Memory("1Gi").Bound("n1", epoch, "GPU-0=1Gi").Obj()
	f.pl.faults.EvacuationTried(f.ctx, pod, evacuate.Evicted, nil)
	f.wantDecisions("for a driver", log, "Evicted a pod pod=p node=n1 reason=DriverUpgrade preemptor=")
	f.pl.faults.EvacuationTried(f.ctx, pod, evacuate.Refused, fmt.Errorf("a budget"))
	f.wantDecisions("not evicted", log)
}

// TestTheMainReasonIsOfTheNodesThatAreNearest: most nodes of a cluster have no GPUs.
func TestTheMainReasonIsOfTheNodesThatAreNearest(t *testing.T) {
	refused := func(code fwk.Code, plugin, reason string) *fwk.Status {
		return fwk.NewStatus(code, reason).WithPlugin(plugin)
	}
	const unresolvable = fwk.UnschedulableAndUnresolvable
	noReport := refused(unresolvable, Name, string(gpustate.ReasonNoReport))
	full := refused(fwk.Unschedulable, Name, string(gpustate.ReasonInsufficientMemory))
	small := refused(unresolvable, Name, string(gpustate.ReasonTooSmall))
	tainted := refused(unresolvable, "TaintToleration", "node(s) had untolerated taint(s) {a: b}")
	for _, tc := range []struct {
		name          string
		statuses      []*fwk.Status
		want, message string
	}{
		{"one has GPUs that are full", []*fwk.Status{noReport, noReport, full}, string(gpustate.ReasonInsufficientMemory), string(gpustate.ReasonInsufficientMemory)},
		{"one has GPUs that are too small", []*fwk.Status{noReport, noReport, small}, string(gpustate.ReasonTooSmall), string(gpustate.ReasonTooSmall)},
		{"one would have room if others went", []*fwk.Status{small, full, small}, string(gpustate.ReasonInsufficientMemory), string(gpustate.ReasonInsufficientMemory)},
		{"none has GPUs", []*fwk.Status{noReport, noReport}, string(gpustate.ReasonNoReport), string(gpustate.ReasonNoReport)},
		{"most are tainted", []*fwk.Status{tainted, small, tainted}, "TaintToleration", "node(s) had untolerated taint(s) {a: b}"},
		{"the request cannot be read", []*fwk.Status{refused(unresolvable, Name, string(gpustate.ReasonInvalidRequest)+": 30: did you mean 30Gi?")},
			string(gpustate.ReasonInvalidRequest), string(gpustate.ReasonInvalidRequest) + ": 30: did you mean 30Gi?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			m := framework.NewDefaultNodeToStatus()
			for i, status := range tc.statuses {
				name := fmt.Sprintf("n%d", i)
				f.node(bt.MakeNode(name), nil)
				m.Set(name, status)
			}
			if reason, message := f.pl.mainReason(m); reason != tc.want || message != tc.message {
				t.Errorf("reason %q, message %q", reason, message)
			}
		})
	}
}

func TestARefusalIsLoggedOnce(t *testing.T) {
	f, log := logged(t)
	f.node(bt.MakeNode("n1"), bt.MakeGPUsOf("n1", 1, "80Gi"))
	f.resident("v", "n1", nil, bt.GPUOf("n1", 0)+"=60Gi")
	pod := bt.MakePod("p").Memory("50Gi").Obj() // of the same priority
	cycle := func() {
		f.t.Helper()
		f.known(pod)
		m := framework.NewNodeToStatus(map[string]*fwk.Status{"n1": fwk.NewStatus(fwk.Unschedulable, string(gpustate.ReasonInsufficientMemory)).WithPlugin(Name)},
			fwk.NewStatus(fwk.UnschedulableAndUnresolvable))
		f.pl.PostFilter(f.ctx, f.cycleState(pod), pod, m)
	}
	cycle()
	cycle()
	f.wantDecisions("two cycles", log, "Found no place for a pod pod=p reason="+string(gpustate.ReasonInsufficientMemory))
	f.forget(pod)
	f.pl.feed.PodGone(pod)
	cycle()
	f.wantDecisions("another pod of that name", log, "Found no place for a pod pod=p reason="+string(gpustate.ReasonInsufficientMemory))
}
