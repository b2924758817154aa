// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
)

// Timed places pods that come and go at their times, in seconds since the trace began. One that finds no place waits.
type Timed interface {
	Create(at int64, pod *Pod) error
	// Delete takes a pod away, wherever it is. It returns for how many seconds it had waited when it was placed; false if it
	// never was.
	Delete(at int64, pod *Pod) (waited float64, ran bool, err error)
}

// Waiting is how long pods waited that were created and deleted at their times.
type Waiting struct {
	Strategy string `json:"strategy"`
	Seed     uint64 `json:"seed"`
	Pods     int    `json:"pods"`
	// NeverRan is how many were deleted before they found a place. The others are those of whom the rest is.
	NeverRan int `json:"neverRan"`
	// Waited is how many waited at all.
	Waited      int     `json:"waited"`
	MeanSeconds float64 `json:"meanSeconds"`
	P50Seconds  float64 `json:"p50Seconds"`
	P99Seconds  float64 `json:"p99Seconds"`
	MaxSeconds  float64 `json:"maxSeconds"`
}

// event is the creation of a pod, or its deletion.
type event struct {
	at     int64
	pod    int
	delete bool
}

// events returns what happens, in order. What is deleted makes room for what is created in the same second.
func (t *Trace) events() (events []event) {
	for i := range t.Pods {
		events = append(events, event{t.Pods[i].Created, i, false}, event{t.Pods[i].Deleted, i, true})
	}
	rank := func(e event) int {
		switch {
		case !e.delete:
			return 1
		case t.Pods[e.pod].Created == e.at:
			return 2 // it has to be created first
		}
		return 0
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(rank(a), rank(b))) })
	return events
}

// Pass lets the time of a trace pass. step is called for each pod that is created; nil = nobody.
func Pass(ctx context.Context, t *Trace, by Timed, step func()) (*Waiting, error) {
	w := &Waiting{Pods: len(t.Pods)}
	var waits []float64
	for _, e := range t.events() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		pod := &t.Pods[e.pod]
		if !e.delete {
			if err := by.Create(e.at, pod); err != nil {
				return nil, fmt.Errorf("pod %s: %w", pod.Name, err)
			}
			if step != nil {
				step()
			}
			continue
		}
		waited, ran, err := by.Delete(e.at, pod)
		switch {
		case err != nil:
			return nil, fmt.Errorf("pod %s: %w", pod.Name, err)
		case !ran:
			w.NeverRan++
		default:
			waits = append(waits, waited)
		}
	}
	w.of(waits)
	return w, nil
}

func (w *Waiting) of(waits []float64) {
	if len(waits) == 0 {
		return
	}
	slices.Sort(waits)
	for _, s := range waits {
		w.MeanSeconds += s / float64(len(waits))
		if s > 0 {
			w.Waited++
		}
	}
	rank := func(part float64) float64 { return waits[int(math.Ceil(part*float64(len(waits))))-1] } // nearest rank
	w.P50Seconds, w.P99Seconds, w.MaxSeconds = rank(0.5), rank(0.99), waits[len(waits)-1]
}

// queue has pods wait for a reference strategy, the oldest first. Each that is deleted has all of them tried again.
type queue struct {
	*reference
	waiting []*Pod
	placed  map[*Pod]placed
}

// placed is where a pod is, and how long it waited for that.
type placed struct {
	at     Placement
	waited float64
}

// NewTimedReference returns one of References with a queue, on empty nodes.
func NewTimedReference(name string, nodes []Node, t *Trace, seed uint64) Timed {
	return &queue{reference: newReference(name, nodes, t, seed), placed: map[*Pod]placed{}}
}

// Create implements Timed.
func (q *queue) Create(at int64, pod *Pod) error {
	q.waiting = append(q.waiting, pod)
	return q.try(at, len(q.waiting)-1)
}

// try tries the pods that wait, from one on.
func (q *queue) try(at int64, from int) error {
	still := q.waiting[:from]
	for _, pod := range q.waiting[from:] {
		where, nowhere, err := q.Place(pod)
		if err != nil {
			return err
		}
		if nowhere != "" {
			still = append(still, pod)
			continue
		}
		q.placed[pod] = placed{where, float64(at - pod.Created)}
	}
	q.waiting = still
	return nil
}

// Delete implements Timed.
func (q *queue) Delete(at int64, pod *Pod) (waited float64, ran bool, err error) {
	p, ran := q.placed[pod]
	if !ran {
		q.waiting = slices.DeleteFunc(q.waiting, func(other *Pod) bool { return other == pod })
		return 0, false, nil
	}
	delete(q.placed, pod)
	q.remove(pod, p.at)
	return p.waited, true, q.try(at, 0)
}
