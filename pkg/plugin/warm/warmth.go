// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package warm

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/berth-dev/berth/pkg/alloc"
)

// Warmth is what is known of one node for a pod. The zero Warmth is of a cold one.
type Warmth struct {
	// GPUs are, as bits, the devices of the node on which what the pod loads ran, or sleeps.
	GPUs uint64
	// Ran are the GPUs on which it ran.
	Ran []Ran
	// Asleep are pods that load the same, and sleep.
	Asleep []Sleeper
	// Runs is a pod that loads the same and is Ready, as it is named to people; empty = none.
	Runs string
	// ImageBytes is the size of the pod's image volumes if all of them are on the node, else zero.
	ImageBytes alloc.Bytes
}

// Sleeper is a pod that is Ready, and holds far less of a GPU than it booked.
type Sleeper struct {
	// Pod is the pod as it is named to people.
	Pod string
	// Device is a position on the node, and Index the number of the device for display.
	Device, Index int
	Holds, Booked alloc.Bytes
	// Loaded says that its engine is Ready only with its model loaded, so that it unloaded it.
	Loaded bool
}

// asleepParts is how small a part of its booking a pod that sleeps holds, at most. vLLM gives back nine tenths and more of what it
// holds ("Sleep Mode" in its documentation), and one that is awake holds all that is booked for it.
const asleepParts = 4

// IsAsleep says whether what a Ready pod is measured to hold of a booking means that it sleeps. What is not measured means nothing.
func IsAsleep(holds, booked alloc.Bytes) bool {
	return !holds.IsZero() && holds.Times(asleepParts).Compare(booked) <= 0
}

// Level returns how warm the node is, whatever its GPUs are.
func (w *Warmth) Level() Level {
	if w.GPUs != 0 || len(w.Ran) > 0 || len(w.Asleep) > 0 || w.Runs != "" || !w.ImageBytes.IsZero() {
		return Files
	}
	return Cold
}

// Tell says what the pod gains by a place on the node: by its devices at the level GPUs, else by the node. noun names what it loads,
// and size is that of its files, zero if it is not known.
func (w *Warmth) Tell(n *alloc.Node, a *alloc.Allocation, level Level, noun string, size alloc.Bytes, now time.Time) string {
	ago := func(at time.Time) string { return duration.HumanDuration(now.Sub(at)) + " ago" }
	cached := ", its files may be cached"
	if !size.IsZero() {
		cached = fmt.Sprintf(", %s of files may be cached", size)
	}
	if !w.ImageBytes.IsZero() {
		cached = fmt.Sprintf(", its image volumes (%s) are on the node", w.ImageBytes)
	}
	if level == GPUs {
		for i := range w.Asleep {
			if s := &w.Asleep[i]; holds(a, n.Devices[s.Device].UUID) {
				return s.tell(noun)
			}
		}
		oldest, here := now, "this GPU"
		if len(a.Devices) > 1 {
			here = "these GPUs"
		}
		for _, r := range w.Ran {
			if holds(a, r.GPU) && r.Until.Before(oldest) {
				oldest = r.Until
			}
		}
		return fmt.Sprintf("its %s ran on %s until %s", noun, here, ago(oldest)) + cached
	}
	switch {
	case len(w.Asleep) > 0:
		return w.Asleep[0].tell(noun)
	case w.Runs != "":
		return fmt.Sprintf("%s with the same %s runs on the node", w.Runs, noun) + cached
	case len(w.Ran) > 0:
		last := slices.MaxFunc(w.Ran, func(x, y Ran) int { return x.Until.Compare(y.Until) })
		return fmt.Sprintf("its %s ran on the node until %s", noun, ago(last.Until)) + cached
	}
	return cached[len(", "):]
}

func (s *Sleeper) tell(noun string) string {
	does := "has it unloaded, or not loaded yet,"
	if s.Loaded {
		does = "sleeps"
	}
	return fmt.Sprintf("%s with the same %s %s on GPU %d, where it holds %s of %s", s.Pod, noun, does, s.Index, s.Holds, s.Booked)
}

func holds(a *alloc.Allocation, gpu string) bool {
	return slices.ContainsFunc(a.Devices, func(d alloc.DeviceShare) bool { return d.UUID == gpu })
}
