// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Verdict is what is known of a policy.
type Verdict uint8

const (
	// Unknown: it could not be checked.
	Unknown Verdict = iota
	// Missing: what it refuses is not refused.
	Missing
	// InForce: it refuses what it has to.
	InForce
)

// Finding is the verdict on one policy.
type Finding struct {
	Policy  string
	Verdict Verdict
	// Why says, for people, what was seen; empty if the policy is in force.
	Why string
}

func (f Finding) String() string { return f.Policy + ": " + f.Why }

// judge returns what the apiserver's answer to a dry run says of the policy that has to refuse it. ok is false if
// something else refused it, so that nothing is known of the policy.
func judge(policy string, answer error) (f Finding, ok bool) {
	switch {
	case answer == nil, exceedsQuota(answer), reachesStore(answer):
		return Finding{policy, Missing, "what it has to refuse was let through"}, true
	case refusedBy(answer, policy):
		return Finding{Policy: policy, Verdict: InForce}, true
	}
	return Finding{policy, Unknown, shorten("it could not be tried: " + answer.Error())}, false
}

// whatItSees is what tellingPolicy says of a pod, before the value of the variable.
const whatItSees = "NVIDIA_VISIBLE_DEVICES is "

// judgeHandOff reads what the mutating policy did to a pod from the message of the one that refuses it.
func judgeHandOff(policy string, answer error) (f Finding, ok bool) {
	if answer == nil || !refusedBy(answer, tellingPolicy) {
		f, ok = judge(policy, answer)
		if ok {
			f = Finding{policy, Unknown, "it could not be tried: the policy " + tellingPolicy + ", which tells what it does, is not in force"}
		}
		return f, ok
	}
	if strings.Contains(answer.Error(), whatItSees+"void") {
		return Finding{Policy: policy, Verdict: InForce}, true
	}
	return Finding{policy, Missing, "it adds nothing to a pod that has to get NVIDIA_VISIBLE_DEVICES=void"}, true
}

// refusedBy says whether a validating policy refused a request, as the apiserver words it.
func refusedBy(answer error, policy string) bool {
	return (apierrors.IsForbidden(answer) || apierrors.IsInvalid(answer)) &&
		strings.Contains(answer.Error(), fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding", policy))
}

// exceedsQuota says whether only the quota of the namespace stopped a request: it is asked after all policies.
func exceedsQuota(answer error) bool {
	return apierrors.IsForbidden(answer) && strings.Contains(answer.Error(), "quota: "+Namespace)
}

// reachesStore says whether a Binding came as far as its pod, which does not exist.
func reachesStore(answer error) bool {
	status, ok := answer.(apierrors.APIStatus)
	if !ok || !apierrors.IsNotFound(answer) || status.Status().Details == nil {
		return false
	}
	return status.Status().Details.Kind == "pods" && status.Status().Details.Name == probeName
}

// notAllowed says whether the account may not do what was tried, or be used at all.
func notAllowed(answer error) bool {
	return apierrors.IsUnauthorized(answer) || apierrors.IsForbidden(answer) && strings.Contains(answer.Error(), `" cannot `)
}

// maxWhy is how long a reason may get, in bytes: an Event has room for a few.
const maxWhy = 300

func shorten(s string) string {
	if len(s) <= maxWhy {
		return s
	}
	return strings.ToValidUTF8(s[:maxWhy-3], "") + "..."
}
