// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package nodehealth says by a condition of the Node, as tools of the cluster read it, whether its GPUs are well. It is pure:
// reports in, conditions out.
package nodehealth

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Reasons of the condition, beside those that the agent gives for a device.
const (
	// ReasonHealthy: no GPU has a fault.
	ReasonHealthy = "GPUsAreHealthy"
	// ReasonSeveral: GPUs have faults, of several kinds.
	ReasonSeveral = "SeveralFaults"
	// ReasonOther: a GPU has a fault that has no name.
	ReasonOther = "OtherFault"
	// ReasonNoGPUs: the agent reports none, so that nothing is known of any.
	ReasonNoGPUs = "NoGPUsReported"
	// ReasonUnreadable: what the agent reports cannot be decoded.
	ReasonUnreadable = "ReportUnreadable"
	// ReasonSilent: the agent does not renew its Lease.
	ReasonSilent = "AgentSilent"
)

// maxMessage bounds a message, in bytes: 64 devices with a fault each would be several times that.
const maxMessage = 1024

// Condition returns the condition that a report gives its node, without times; s is nil for one that cannot be decoded.
func Condition(s *berthv1alpha1.GPUNodeStatus) corev1.NodeCondition {
	switch {
	case s == nil:
		return condition(corev1.ConditionUnknown, ReasonUnreadable, "the report of the node's GPUs cannot be decoded")
	case len(s.Devices) == 0:
		return condition(corev1.ConditionUnknown, ReasonNoGPUs, "the node's agent reports no GPU")
	}
	reason := ""
	var faults []string
	for i := range s.Devices {
		d := &s.Devices[i]
		if !d.HasFault() {
			continue
		}
		faults = append(faults, fmt.Sprintf("GPU %d (%s): %s", d.Index, d.UUID, d.Reason))
		switch is := wellFormed(d.Reason); {
		case reason == "":
			reason = is
		case reason != is:
			reason = ReasonSeveral
		}
	}
	if len(faults) > 0 {
		return condition(corev1.ConditionTrue, reason, strings.Join(faults, "; "))
	}
	return condition(corev1.ConditionFalse, ReasonHealthy, "no GPU of the node has a fault")
}

// reasonForm is that of the reasons of Kubernetes' own conditions.
var reasonForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}$`)

// wellFormed returns a device's reason if tools can read it: a node's token can put anything there.
func wellFormed(reason string) string {
	if reasonForm.MatchString(reason) {
		return reason
	}
	return ReasonOther
}

// Silent is the condition of a node whose agent is not heard of: what its last report said was so then.
func Silent(last corev1.NodeCondition) corev1.NodeCondition {
	return condition(corev1.ConditionUnknown, ReasonSilent, "the node's agent has not renewed its Lease; before, "+last.Message)
}

func condition(status corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage-len("…")], "") + "…"
	}
	return corev1.NodeCondition{Type: berthv1alpha1.ConditionGPUUnhealthy, Status: status, Reason: reason, Message: message}
}

// Same says whether two conditions say the same.
func Same(a, b *corev1.NodeCondition) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}
