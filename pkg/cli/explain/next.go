// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/simulator"
)

const (
	// nextWithin is how far ahead it is looked for what makes a pod be tried, and nextTries for one that places it.
	nextWithin = 24 * time.Hour
	nextTries  = 20
	// soonAfter is how long after a moment the scheduler tries what waits for it, at most.
	soonAfter = 2 * time.Second
)

// Next is when a pod is tried again, if all else stays as it is: who is idle stays idle, and nobody else comes or goes.
type Next struct {
	// Time is of the first try that places the pod; of the first, if none within a day does.
	Time metav1.Time `json:"time"`
	// Because is what happens then, as far as it is known.
	Because []string `json:"because,omitempty"`
	// Outcome is what becomes of the pod.
	Outcome whatif.Pod `json:"outcome"`
}

// next lets the simulation go on until the pod is placed.
func next(sim *simulator.Simulator, e *Explanation) (*Next, error) {
	var first *Next
	end := e.Time.Add(nextWithin)
	at := e.Time.Time
	for range nextTries {
		var err error
		if at, err = sim.RunToTry(e.Namespace, e.Name.Name, end.Sub(at)); err != nil || at.IsZero() {
			return first, err
		}
		n := &Next{Time: metav1.NewTime(at), Because: e.due(at)}
		if n.Outcome, err = whatif.OutcomeOf(sim, e.Namespace, e.Name.Name); err != nil {
			return nil, err
		}
		if n.Outcome.Node != "" {
			n.Outcome.AfterSeconds = max(n.Outcome.AfterSeconds-at.Sub(e.Time.Time).Round(time.Second).Seconds(), 0)
			return n, nil
		}
		if first == nil {
			first = n
		}
	}
	return first, nil
}

// holders are all holders of memory.
func (e *Explanation) holders() (all []*Holder) {
	for i := range e.Nodes {
		for j := range e.Nodes[i].GPUs {
			holders := e.Nodes[i].GPUs[j].Holders
			for k := range holders {
				all = append(all, &holders[k])
			}
		}
	}
	return all
}

// due says what is over at a moment.
func (e *Explanation) due(at time.Time) (what []string) {
	is := func(t time.Time) bool { return !at.Before(t.Truncate(time.Second)) && at.Sub(t) < soonAfter }
	for _, h := range e.holders() {
		id := h.Namespace + "/" + h.Name
		if h.IdleAfter > 0 && h.IdleSeconds > 0 && is(e.Time.Add(seconds(h.IdleAfter-h.IdleSeconds))) {
			what = append(what, fmt.Sprintf("pod %s has been idle for its %s", id, inWords(h.IdleAfter)))
		}
		if h.ProtectedUntil != nil && is(*h.ProtectedUntil) {
			what = append(what, fmt.Sprintf("the min-runtime of pod %s is over", id))
		}
		if h.LeavesBy != nil && is(*h.LeavesBy) {
			what = append(what, fmt.Sprintf("the grace period of pod %s is over", id))
		}
	}
	slices.Sort(what)
	return slices.Compact(what)
}

// leavingBy says of the pods that are being deleted when they are gone at the latest.
func leavingBy(s *simulator.Snapshot) map[whatif.Name]*time.Time {
	by := map[whatif.Name]*time.Time{}
	for _, obj := range s.Objects {
		if pod, ok := obj.(*corev1.Pod); ok && pod.DeletionTimestamp != nil {
			by[whatif.Name{Namespace: pod.Namespace, Name: pod.Name}] = &pod.DeletionTimestamp.Time
		}
	}
	return by
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func inWords(s float64) string { return shortly(seconds(s)) }

// shortly is a duration as people write it: 10m, not 10m0s.
func shortly(d time.Duration) string {
	text := d.Round(time.Second).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if n := len(text) - len(zero) + 1; n > 0 && text[n-1:] == zero {
			text = text[:n]
		}
	}
	return text
}
