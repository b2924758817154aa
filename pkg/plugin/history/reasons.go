// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package history

import "k8s.io/apimachinery/pkg/util/sets"

// Messages of the log lines. Tools find lines by them.
const (
	msgBooked   = "Booked GPU memory"
	msgBound    = "Bound a pod to its GPUs"
	msgNotBound = "Could not bind a pod to its GPUs"
	msgWaits    = "A pod waits for memory that comes back"
	msgEvicts   = "Evicting pods for a pod"
	msgDropped  = "A pod gave up the place that it waited for"
	msgRefused  = "Found no place for a pod"
	msgEvicted  = "Evicted a pod"
)

// Messages are those of all lines.
var Messages = sets.New(msgBooked, msgBound, msgNotBound, msgWaits, msgEvicts, msgDropped, msgRefused, msgEvicted)

// How a pod that was bound came to its place.
const (
	AfterRoom     = "room"     // there was room
	AfterWait     = "wait"     // memory came back, or others had loaded, and nobody was evicted
	AfterEviction = "eviction" // others were evicted for it
	AfterUnknown  = "unknown"  // its Binding had no answer, and turned out to have taken effect
)

// Why a pod was not bound after its memory had been booked.
const (
	BindNotSent = "not-sent" // the process was not sure to lead for long enough, or was told to end
	BindRefused = "refused"  // by the apiserver
	BindUnknown = "unknown"  // there was no answer: it may be bound, and is looked for
)

// EvictionReason is why a pod was evicted.
type EvictionReason string

// Reasons of evictions.
const (
	// LowerPriority: for the GPU memory of a pod of higher priority.
	LowerPriority EvictionReason = "LowerPriority"
	// Idle: for the GPU memory of a pod of the same priority, because it was idle for longer than its idle-after.
	Idle EvictionReason = "Idle"
	// OtherResources: by the default preemption, for a pod that asks for no GPU memory.
	OtherResources EvictionReason = "OtherResources"
	// DriverUpgrade: the driver of its node is to be replaced.
	DriverUpgrade EvictionReason = "DriverUpgrade"
	// DeviceLost: a GPU of it failed, or vanished.
	DeviceLost EvictionReason = "DeviceLost"
	// Overuse: it held more than it booked.
	Overuse EvictionReason = "Overuse"
	// Overbooked: more is booked on its GPU than the GPU has, and it came last.
	Overbooked EvictionReason = "Overbooked"
)

// Kinds of decisions, in metrics.
const (
	decisionBooked   = "booked"
	decisionWaiting  = "waiting"
	decisionEvicting = "evicting"
	decisionRefused  = "refused"
)
