// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-dev/berth/pkg/alloc"
)

// Surplus is a pod whose booking does not fit next to those of the pods that were bound before it.
type Surplus struct {
	Pod   *corev1.Pod
	Ready bool
	// Device is one on which it does not fit; Booked is what is booked there altogether, and Usable what can be.
	Device         alloc.Device
	Booked, Usable alloc.Bytes
}

// Overbooked returns how many devices of a node have more booked on them than they have memory, headroom aside, and the
// pods that should not be there. Nothing that the scheduler does leads to it; but an older leader that woke could, or a
// device that came back smaller. Pods that terminate do not count, since they solve it, nor what is not known.
func (t *Tracker) Overbooked(node string) (devices int, surplus []Surplus) {
	report, _ := t.Store.Report(node, 0)
	if report == nil {
		return 0, nil
	}
	entries := t.Ledger.OnNode(node)
	if devices = report.Overbooked(entries); devices == 0 {
		return 0, nil // as always
	}
	booked, usable := report.bookedOnEach(entries), report.usable
	entries = slices.Clone(entries)
	slices.SortFunc(entries, laterBound)
	var kept [alloc.MaxDevices]alloc.Bytes
	for _, e := range entries {
		full := -1
		e.bookedOn(report, func(i int, memory alloc.Bytes) bool {
			if usable(i).Less(kept[i].Plus(memory)) {
				full = i
			}
			return full < 0
		})
		if full >= 0 {
			_, ready := readySince(e.Pod)
			surplus = append(surplus, Surplus{
				Pod: e.Pod, Ready: ready, Device: report.Devices[full], Booked: booked[full], Usable: usable(full),
			})
			continue
		}
		e.bookedOn(report, func(i int, memory alloc.Bytes) bool {
			kept[i] = kept[i].Plus(memory)
			return true
		})
	}
	return devices, surplus
}

// Overbooked returns how many devices of a report have more booked on them by the entries of its node than they have memory,
// see Tracker.Overbooked.
func (r *Report) Overbooked(entries []*Entry) (devices int) {
	booked := r.bookedOnEach(entries)
	for i := range r.Devices {
		if r.usable(i).Less(booked[i]) {
			devices++
		}
	}
	return devices
}

// bookedOnEach returns what bound pods that stay have booked on each device.
func (r *Report) bookedOnEach(entries []*Entry) (booked [alloc.MaxDevices]alloc.Bytes) {
	for _, e := range entries {
		e.bookedOn(r, func(i int, memory alloc.Bytes) bool {
			booked[i] = booked[i].Plus(memory)
			return true
		})
	}
	return booked
}

// usable is what a device has for pods, headroom included.
func (r *Report) usable(device int) alloc.Bytes { return r.Devices[device].Unused }

// bookedOn calls f, while it returns true, for each device of a report on which a bound pod that stays has booked, and
// whose memory is known.
func (e *Entry) bookedOn(r *Report, f func(device int, memory alloc.Bytes) bool) {
	if e.State != Confirmed || e.Pod.DeletionTimestamp != nil || e.Allocation == nil || e.Allocation.Whole {
		return
	}
	for _, share := range e.Allocation.Devices {
		i := r.indexOf(share.UUID)
		if i < 0 || r.Devices[i].Total.IsZero() || r.Devices[i].Blocked == alloc.ReasonUnhealthy {
			continue // what it has is not known
		}
		if !f(i, share.Memory) {
			return
		}
	}
}

// laterBound orders entries by when their pods were bound, in whole seconds; between equals those that are Ready come
// first, then names decide.
func laterBound(a, b *Entry) int {
	at := func(e *Entry) (at time.Time) {
		if e.Pod != nil {
			at, _ = boundAt(e.Pod)
		}
		return at
	}
	waits := func(e *Entry) int {
		if e.Pod != nil {
			if _, ready := readySince(e.Pod); ready {
				return 0
			}
		}
		return 1
	}
	return cmp.Or(at(a).Compare(at(b)), cmp.Compare(waits(a), waits(b)),
		strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(string(a.UID), string(b.UID)))
}
