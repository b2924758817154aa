// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Reason is the kind of what a pod waits for.
type Reason uint8

const (
	// NotTried: it was not tried yet.
	NotTried Reason = iota
	// ModelUnknown: the size of its model is not known.
	ModelUnknown
	// InvalidRequest: its request cannot be read, or can be given to no container.
	InvalidRequest
	// PoliciesMissing: nothing is placed while admission policies are not known to be in force.
	PoliciesMissing
	// Binding: it has a place, and is being bound.
	Binding
	// MemoryReturning: it has a node, and waits there for memory of others that come to an end or were evicted.
	MemoryReturning
	// InsufficientMemory: some node would hold it if less were booked or in use.
	InsufficientMemory
	// Loading: some node would hold it once another pod has loaded.
	Loading
	// NodesUnusable: nodes that might hold it get no pods.
	NodesUnusable
	// TooLarge: no node could ever hold it.
	TooLarge
	// Other: something else than GPU memory keeps it from every node.
	Other

	reasons
)

var reasonNames = [reasons]string{
	"not-tried", "model-unknown", "invalid-request", "policies-missing", "binding", "memory-returning", "insufficient-memory",
	"loading", "nodes-unusable", "too-large", "other",
}

// String returns the name of the reason, as metrics have it.
func (r Reason) String() string { return reasonNames[r] }

// Ages are the ages of waiting pods that are told apart, ascending; the first is zero.
var Ages = [ages]time.Duration{0, time.Minute, 10 * time.Minute, time.Hour}

const ages = 4

// AgeName returns the name of one of Ages, as metrics have it.
func AgeName(i int) string { return [ages]string{"0s", "1m", "10m", "1h"}[i] }

// ageOf returns the last of Ages that has passed.
func ageOf(age time.Duration) (i int) {
	for i+1 < ages && age >= Ages[i+1] {
		i++
	}
	return i
}

// Waiting is a pod that waits for GPU memory.
type Waiting struct {
	Created time.Time
	Reason  Reason
	// Devices and Share are what it would rather have: that many devices, of at least so much each. Zero = not known.
	Devices int
	Share   alloc.Bytes
}

// sentences are what a pod's condition says, the most telling first: over all nodes it may say several.
var sentences = []struct {
	reason Reason
	says   []alloc.Reason
}{
	{PoliciesMissing, []alloc.Reason{gpustate.ReasonPolicies}},
	{InvalidRequest, []alloc.Reason{
		gpustate.ReasonInvalidRequest, gpustate.ReasonClaimsGPU, gpustate.ReasonNoReference, gpustate.ReasonNoRuntimeClass,
		gpustate.ReasonLimitNotGiven,
	}},
	{ModelUnknown, []alloc.Reason{gpustate.ReasonModelUnknown}},
	{Binding, []alloc.Reason{gpustate.ReasonBindUnknown}},
	{NotTried, []alloc.Reason{gpustate.ReasonRecovering}}, // by the leader before this one
	{InsufficientMemory, []alloc.Reason{gpustate.ReasonInsufficientMemory, gpustate.ReasonSameWorkload, gpustate.ReasonNotAlone, gpustate.ReasonResourceSum}},
	{Loading, []alloc.Reason{gpustate.ReasonLoading}},
	{NodesUnusable, []alloc.Reason{
		gpustate.ReasonUnreadableReport, gpustate.ReasonStaleReport, gpustate.ReasonDriverUpgrade, gpustate.ReasonDevicePlugin,
		gpustate.ReasonDRA, gpustate.ReasonUnknownResourceClaim, gpustate.ReasonUnknownAllocation, gpustate.ReasonUnreportedDevicePod,
		gpustate.ReasonUnhealthyDevices, gpustate.ReasonResourceClaimedDevices, gpustate.ReasonContestedDevices, gpustate.ReasonCordonedDevices,
		gpustate.ReasonNoRuntimeHandler, gpustate.ReasonNoHandOff, gpustate.ReasonOnlyUUIDs, gpustate.ReasonLongName,
		gpustate.ReasonHandOffOverride, gpustate.ReasonNoLimitReference, gpustate.ReasonSharedLimit, gpustate.ReasonLimitsFail,
		gpustate.ReasonLimitsUnknown, gpustate.ReasonGPUSharingNotReady, gpustate.ReasonLongSharingName,
	}},
	{TooLarge, []alloc.Reason{gpustate.ReasonNothingEverFits, gpustate.ReasonTooSmall, gpustate.ReasonInstances, gpustate.ReasonNoReport}},
}

// ConditionOf returns what a pod waits for by its condition PodScheduled, which whoever led when it was last tried wrote.
func ConditionOf(pod *corev1.Pod) Reason {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type != corev1.PodScheduled || c.Status != corev1.ConditionFalse {
			continue
		}
		for _, s := range sentences {
			for _, says := range s.says {
				if strings.Contains(c.Message, string(says)) {
					return s.reason
				}
			}
		}
		return Other
	}
	return NotTried
}
