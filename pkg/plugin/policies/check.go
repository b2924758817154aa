// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"context"
	"fmt"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// requestTimeout bounds each request.
const requestTimeout = 10 * time.Second

// Checker asks one apiserver of the cluster.
type Checker struct {
	// own reads policies, and prober, an account of its own, tries what they refuse.
	own, prober kubernetes.Interface
	leftOut     []string
}

// NewChecker returns a checker of all policies but some that are left out of the installation on purpose. The account of
// config must be allowed to impersonate that of the probes: no token of that one exists, so that none can be stolen.
func NewChecker(config *rest.Config, leftOut []string) (*Checker, error) {
	config = rest.CopyConfig(config)
	config.RateLimiter, config.QPS, config.Burst = nil, 20, 20
	own, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + Namespace + ":" + Account}
	prober, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Checker{own: own, prober: prober, leftOut: leftOut}, nil
}

// Check makes one round: a finding for each policy that the installation should have, by name.
func (c *Checker) Check(ctx context.Context) []Finding {
	mutating, err := MutatingVersion(ctx, c.own.Discovery().RESTClient())
	findings := []Finding{}
	for i := range probes {
		p := &probes[i]
		switch {
		case slices.Contains(c.leftOut, p.policy):
		case p.mutating && err != nil:
			findings = append(findings, Finding{p.policy, Unknown, shorten("it could not be tried: " + err.Error())})
		case p.mutating && mutating == "": // Kubernetes 1.35: whoever installed Berth knows
		case p.send == nil && p.mutating:
			findings = append(findings, c.readMutating(ctx, p.policy, mutating))
		case p.send == nil:
			findings = append(findings, c.read(ctx, p.policy))
		default:
			findings = append(findings, c.try(ctx, p, mutating))
		}
	}
	return findings
}

// try makes a dry run, and reads the policy if something else than the policy refused it: a webhook of others, or a
// RuntimeClass that does not exist.
func (c *Checker) try(ctx context.Context, p *probe, mutating string) Finding {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer := p.send(ctx, c.prober)
	f, ok := p.judge(p.policy, answer)
	switch {
	case ok || notAllowed(answer) || !(apierrors.IsForbidden(answer) || apierrors.IsInvalid(answer) || apierrors.IsBadRequest(answer)):
		return f
	case p.mutating:
		return c.readMutating(ctx, p.policy, mutating)
	}
	return c.read(ctx, p.policy)
}

// MutatingVersion returns the version in which the apiserver serves mutating policies; empty if it does not.
func MutatingVersion(ctx context.Context, client rest.Interface) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, version := range []string{"v1", "v1beta1"} {
		var list metav1.APIResourceList
		err := client.Get().AbsPath("apis", admissionv1.GroupName, version).Do(ctx).Into(&list)
		if err != nil && !apierrors.IsNotFound(err) {
			return "", fmt.Errorf("asking what the apiserver serves: %w", err)
		}
		if slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "mutatingadmissionpolicies" }) {
			return version, nil
		}
	}
	return "", nil
}

// read judges a validating policy by what stands in it and in its binding, which have the same name.
func (c *Checker) read(ctx context.Context, name string) Finding {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	policy, err := c.own.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return unread(name, "policy", err)
	}
	binding, err := c.own.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return unread(name, "binding", err)
	}
	if why := Flaw(policy, binding); why != "" {
		return Finding{name, Missing, shorten(why)}
	}
	return Finding{Policy: name, Verdict: InForce}
}

// TypeWarning begins a Flaw that the apiserver found in an expression.
const TypeWarning = "the apiserver warns of "

// Flaw says what keeps a policy from refusing anything; empty if nothing does.
func Flaw(policy *admissionv1.ValidatingAdmissionPolicy, binding *admissionv1.ValidatingAdmissionPolicyBinding) string {
	if binding.Spec.PolicyName != policy.Name {
		return "its binding is of the policy " + binding.Spec.PolicyName
	}
	if !slices.Contains(binding.Spec.ValidationActions, admissionv1.Deny) {
		return "its binding does not deny"
	}
	if checked := policy.Status.TypeChecking; checked != nil && policy.Status.ObservedGeneration == policy.Generation {
		for _, w := range checked.ExpressionWarnings {
			return TypeWarning + w.FieldRef + ": " + w.Warning
		}
	}
	return ""
}

// readMutating says whether a mutating policy and its binding are there.
func (c *Checker) readMutating(ctx context.Context, name, version string) Finding {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, part := range []struct{ what, resource string }{
		{"policy", "mutatingadmissionpolicies"}, {"binding", "mutatingadmissionpolicybindings"},
	} {
		err := c.own.Discovery().RESTClient().Get().AbsPath("apis", admissionv1.GroupName, version, part.resource, name).Do(ctx).Error()
		if err != nil {
			return unread(name, part.what, err)
		}
	}
	return Finding{Policy: name, Verdict: InForce}
}

func unread(name, part string, err error) Finding {
	if apierrors.IsNotFound(err) {
		return Finding{name, Missing, "its " + part + " does not exist"}
	}
	return Finding{name, Unknown, shorten("its " + part + " could not be read: " + err.Error())}
}
