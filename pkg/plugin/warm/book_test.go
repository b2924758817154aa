// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package warm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"

	bt "github.com/berth-dev/berth/internal/testing"
)

const model = "hf://org/repo"

// library is a book with its clock, and nodes by their UIDs.
type library struct {
	*Book
	clock *testclock.FakeClock
	nodes map[string]types.UID
}

func newLibrary() *library {
	l := &library{clock: testclock.NewFakeClock(bt.Epoch), nodes: map[string]types.UID{"a": "1", "b": "2"}}
	l.Book = NewBook(l.clock, func(name string) (types.UID, bool) {
		uid, ok := l.nodes[name]
		return uid, ok
	})
	return l
}

// on returns what is known of a node, in words.
func (l *library) on(node string) string {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, UID: l.nodes[node]}}
	place, ok := l.Of("model " + model).On(n)
	if !ok {
		return "cold"
	}
	var words []string
	for _, pod := range place.Runs {
		words = append(words, string(pod)+" runs")
	}
	for _, r := range place.Ran {
		words = append(words, fmt.Sprintf("%s until %s ago", r.GPU, l.clock.Since(r.Until)))
	}
	return strings.Join(words, ", ")
}

func (l *library) want(t *testing.T, what, node, want string) {
	t.Helper()
	if got := l.on(node); got != want {
		t.Errorf("%s: node %s is %q, want %q", what, node, got, want)
	}
}

func on(node, name string, gpus ...string) *bt.Pod {
	var shares []string
	for _, g := range gpus {
		shares = append(shares, g+"=10Gi")
	}
	return bt.MakePod(name).Model(model).Memory("10Gi").Bound(node, bt.Epoch, shares...).Started(bt.Epoch)
}

func TestWhatIsRemembered(t *testing.T) {
	l := newLibrary()
	p := on("a", "p", "GPU-1", "GPU-2")
	l.Seen(p.Obj())
	l.want(t, "while it loads", "a", "cold")
	p.Ready(bt.Epoch)
	l.Seen(p.Obj())
	l.Seen(p.Obj())
	l.want(t, "once it is Ready", "a", "p runs")
	l.want(t, "elsewhere", "b", "cold")
	l.Seen(p.NotReady(bt.Epoch).Obj())
	l.want(t, "it is Ready no more", "a", "p runs")
	l.clock.Step(time.Minute)
	l.Gone(p.Obj())
	l.Gone(p.Obj())
	l.clock.Step(time.Minute)
	l.want(t, "it is gone", "a", "GPU-1 until 1m0s ago, GPU-2 until 1m0s ago")
	q := on("a", "q", "GPU-2").Ready(bt.Epoch)
	l.Seen(q.Obj())
	l.Gone(q.Obj())
	l.want(t, "another one was on one of the GPUs since", "a", "GPU-1 until 1m0s ago, GPU-2 until 0s ago")
	l.clock.Step(maxAge - time.Minute)
	l.want(t, "an hour after the first", "a", "GPU-2 until 59m0s ago")
	l.clock.Step(time.Minute)
	l.want(t, "an hour after the second", "a", "cold")
	other := on("b", "r", "GPU-9").Ready(bt.Epoch)
	l.Seen(other.Obj())
	l.Gone(other.Obj())
	if len(l.pods) > 0 || len(l.loaded) != 1 || len(l.loaded["model "+model]) != 1 || len(l.ended) != 1 {
		t.Errorf("what is too old is kept: %v, %v, %v", l.pods, l.loaded, l.ended)
	}
}

func TestWhatDoesNotCount(t *testing.T) {
	ready := func(p *bt.Pod) *bt.Pod { return p.Ready(bt.Epoch) }
	for _, tc := range []struct {
		name string
		pod  *bt.Pod
		// then happens to the node before the pod goes.
		then func(*library)
	}{
		{name: "a pod that was never Ready", pod: on("a", "p", "GPU-1")},
		{name: "one that is bound without an allocation", pod: ready(bt.MakePod("p").Model(model).Node("a"))},
		{name: "one of another model", pod: ready(on("a", "p", "GPU-1").Model("hf://org/other"))},
		{name: "one whose node is gone", pod: ready(on("a", "p", "GPU-1")), then: func(l *library) { delete(l.nodes, "a") }},
		{name: "one whose node was replaced", pod: ready(on("a", "p", "GPU-1")), then: func(l *library) { l.nodes["a"] = "3" }},
		{name: "one that failed before anybody saw it run", pod: on("a", "p", "GPU-1").Phase(corev1.PodFailed)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLibrary()
			l.Seen(tc.pod.Obj())
			if tc.then != nil {
				tc.then(l)
			}
			l.Gone(tc.pod.Obj())
			l.want(t, "gone", "a", "cold")
		})
	}
}

func TestANodeThatIsReplacedIsCold(t *testing.T) {
	l := newLibrary()
	p, q := on("a", "p", "GPU-1").Ready(bt.Epoch), on("a", "q", "GPU-2").Ready(bt.Epoch)
	l.Seen(p.Obj())
	l.Seen(q.Obj())
	l.Gone(q.Obj())
	l.want(t, "before", "a", "p runs, GPU-2 until 0s ago")
	l.nodes["a"] = "3"
	l.want(t, "after", "a", "cold")
}

// TestAPodThatIsSeenBeforeItsNode counts: informers start in no order.
func TestAPodThatIsSeenBeforeItsNode(t *testing.T) {
	l := newLibrary()
	delete(l.nodes, "a")
	l.Seen(on("a", "p", "GPU-1").Ready(bt.Epoch).Obj())
	l.nodes["a"] = "1"
	l.want(t, "once the node is seen", "a", "p runs")
	l.Gone(on("a", "p", "GPU-1").Obj())
	l.want(t, "gone", "a", "GPU-1 until 0s ago")
}

// TestAJobThatSucceededCounts, though it had before anybody saw it run: it is in the API as long as its Job is.
func TestAJobThatSucceededCounts(t *testing.T) {
	l := newLibrary()
	p := on("a", "p", "GPU-1").Phase(corev1.PodSucceeded).Obj()
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(bt.Epoch.Add(-time.Minute))},
	}}}
	l.Seen(p)
	l.want(t, "seen", "a", "GPU-1 until 1m0s ago")
	l.Gone(p)
	l.want(t, "gone", "a", "GPU-1 until 1m0s ago")
}

func TestTheBookIsBounded(t *testing.T) {
	l := newLibrary()
	for i := range maxEnded + 10 {
		p := on("a", fmt.Sprint("p", i), fmt.Sprintf("GPU-%05d", i)).Ready(bt.Epoch).Obj()
		l.Seen(p)
		l.Gone(p)
		l.clock.Step(time.Millisecond)
	}
	if ran := l.loaded["model "+model]["a"].ran; len(ran) != maxEnded || !ran["GPU-00009"].until.IsZero() || ran["GPU-00010"].until.IsZero() {
		t.Errorf("%d GPUs are remembered", len(ran))
	}
}

func TestNoBookKnowsNothing(t *testing.T) {
	var none *Book
	p := on("a", "p", "GPU-1").Ready(bt.Epoch).Obj()
	none.Seen(p)
	none.Gone(p)
	if none.Of("model "+model) != nil {
		t.Error("it knows something")
	}
}
