// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"maps"
	"slices"
	"sync"
)

// turns says which models are looked up at once, so that a host that is slow, silent or throttling costs those who name it.
// One host gets half of all turns, and one namespace a quarter. Beyond that, the namespace is next that has the fewest, then
// the one that had none for longest, and within a namespace the host that had none for longest. It orders what waits and knows nothing of the work: the work queue brings a
// profile to a worker, which asks for its turn and leaves if it is not its turn yet; wake brings it back when it is.
type turns struct {
	total int
	wake  func(profile string)

	mu sync.Mutex
	// taken and waiting are by profile.
	taken   map[string]turn
	waiting map[string]wish
	// last is the number of the last turn of a namespace (with no host), and of a host within a namespace. Who is new
	// starts with the number at which it came: behind those who wait already. number counts wishes and turns.
	last   map[turn]int64
	number int64
}

// turn is whom a look-up is charged to.
type turn struct{ namespace, host string }

// wish is a profile that waits: pods of several namespaces may name it, any of which it can be charged to.
type wish struct {
	host       string
	namespaces []string
	since      int64
}

func newTurns(total int) *turns {
	return &turns{total: total, wake: func(string) {}, taken: map[string]turn{}, waiting: map[string]wish{}, last: map[turn]int64{}}
}

func (t *turns) perHost() int { return max(t.total/2, 1) }

func (t *turns) perNamespace() int { return max(t.total/4, 1) }

// take says whether it is a profile's turn. If it is not, the profile waits for it from now on. Its turn ends with done.
func (t *turns) take(profile, host string, namespaces []string) bool {
	t.mu.Lock()
	if _, has := t.taken[profile]; !has {
		before, waits := t.waiting[profile]
		w := wish{host: host, namespaces: namespaces, since: before.since}
		if !waits {
			t.number++
			w.since = t.number
		}
		t.waiting[profile] = w
		for _, ns := range namespaces {
			for _, flow := range []turn{{namespace: ns}, {ns, host}} {
				if _, known := t.last[flow]; !known {
					t.last[flow] = t.number
				}
			}
		}
	}
	woken := t.assign()
	_, has := t.taken[profile]
	t.mu.Unlock()
	for _, other := range woken {
		if other != profile {
			t.wake(other)
		}
	}
	return has
}

// done ends a profile's turn, or its wish for one.
func (t *turns) done(profile string) {
	t.mu.Lock()
	delete(t.taken, profile)
	delete(t.waiting, profile)
	woken := t.assign()
	t.forget()
	t.mu.Unlock()
	for _, other := range woken {
		t.wake(other)
	}
}

// assign gives out the turns that are free, and returns to whom.
func (t *turns) assign() (profiles []string) {
	for len(t.taken) < t.total {
		profile, to, found := t.next()
		if !found {
			break
		}
		delete(t.waiting, profile)
		t.taken[profile] = to
		t.number++
		t.last[turn{namespace: to.namespace}], t.last[to] = t.number, t.number
		profiles = append(profiles, profile)
	}
	return profiles
}

// next returns the profile whose turn it is, and whom it is charged to.
func (t *turns) next() (profile string, to turn, found bool) {
	hosts, namespaces := map[string]int{}, map[string]int{}
	for _, taken := range t.taken {
		hosts[taken.host]++
		namespaces[taken.namespace]++
	}
	var best []int64
	for name, w := range t.waiting {
		if hosts[w.host] >= t.perHost() {
			continue
		}
		for _, ns := range w.namespaces {
			if namespaces[ns] >= t.perNamespace() {
				continue
			}
			rank := []int64{int64(namespaces[ns]), t.last[turn{namespace: ns}], t.last[turn{ns, w.host}], w.since}
			if c := slices.Compare(rank, best); !found || c < 0 || c == 0 && ns < to.namespace {
				profile, to, best, found = name, turn{ns, w.host}, rank, true
			}
		}
	}
	return profile, to, found
}

// forget drops the numbers of namespaces and hosts that nobody waits for or works for.
func (t *turns) forget() {
	needed := map[turn]bool{}
	for _, taken := range t.taken {
		needed[taken], needed[turn{namespace: taken.namespace}] = true, true
	}
	for _, w := range t.waiting {
		for _, ns := range w.namespaces {
			needed[turn{namespace: ns}], needed[turn{ns, w.host}] = true, true
		}
	}
	maps.DeleteFunc(t.last, func(flow turn, _ int64) bool { return !needed[flow] })
}
