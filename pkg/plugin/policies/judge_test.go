// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"errors"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var pods = schema.GroupResource{Resource: "pods"}

func forbidden(text string) error { return apierrors.NewForbidden(pods, probeName, errors.New(text)) }

func denial(policy, text string) error {
	return forbidden("ValidatingAdmissionPolicy '" + policy + "' with binding '" + policy + "' denied request: " + text)
}

// TestJudge has the answers of a real apiserver; manifests/policies_test.go asks one.
func TestJudge(t *testing.T) {
	quota := forbidden("exceeded quota: berth-probes, requested: pods=1, used: pods=0, limited: pods=0")
	impersonate := apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts"}, Account,
		errors.New(`User "system:serviceaccount:berth-system:berth-scheduler" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "berth-probes"`))
	tests := []struct {
		name   string
		answer error
		judge  func(string, error) (Finding, bool)
		want   Verdict
		known  bool
	}{
		{"it refuses", denial("p", "no"), judge, InForce, true},
		{"another policy refuses", denial("p2", "no"), judge, Unknown, false},
		{"accepted", nil, judge, Missing, true},
		{"only the quota refuses", quota, judge, Missing, true},
		{"another quota refuses", forbidden("exceeded quota: of-others"), judge, Unknown, false},
		{"the Binding got as far as its pod", apierrors.NewNotFound(pods, probeName), judge, Missing, true},
		{"the namespace does not exist", apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, Namespace), judge, Unknown, false},
		{"the account may not be used", impersonate, judge, Unknown, false},
		{"a webhook refuses", forbidden("admission webhook denied the request: ValidatingAdmissionPolicy 'p' is fine"), judge, Unknown, false},
		{"no answer", errors.New("connection refused"), judge, Unknown, false},

		{"hand-off: it was added", denial(tellingPolicy, "NVIDIA_VISIBLE_DEVICES is void"), judgeHandOff, InForce, true},
		{"hand-off: it was not", denial(tellingPolicy, "NVIDIA_VISIBLE_DEVICES is "), judgeHandOff, Missing, true},
		{"hand-off: nobody tells", quota, judgeHandOff, Unknown, true},
		{"hand-off: accepted", nil, judgeHandOff, Unknown, true},
		{"hand-off: no answer", errors.New("connection refused"), judgeHandOff, Unknown, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, known := tt.judge("p", tt.answer)
			if got.Verdict != tt.want || known != tt.known || got.Policy != "p" || (got.Why == "") != (tt.want == InForce) {
				t.Errorf("%+v, %v; want verdict %d, %v", got, known, tt.want, tt.known)
			}
		})
	}
	if !notAllowed(impersonate) || notAllowed(quota) || notAllowed(denial("p", "no")) {
		t.Error("what an account may not do is told from what is refused to everybody")
	}
}

func TestFlaw(t *testing.T) {
	tests := []struct {
		name   string
		change func(*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding)
		want   string
	}{
		{"none", func(*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding) {}, ""},
		{"the binding of another policy", func(_ *admissionv1.ValidatingAdmissionPolicy, b *admissionv1.ValidatingAdmissionPolicyBinding) {
			b.Spec.PolicyName = "other"
		}, "other"},
		{"it only warns", func(_ *admissionv1.ValidatingAdmissionPolicy, b *admissionv1.ValidatingAdmissionPolicyBinding) {
			b.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Warn, admissionv1.Audit}
		}, "does not deny"},
		{"an expression that is wrong", func(p *admissionv1.ValidatingAdmissionPolicy, _ *admissionv1.ValidatingAdmissionPolicyBinding) {
			p.Status.TypeChecking.ExpressionWarnings = []admissionv1.ExpressionWarning{{FieldRef: "spec.validations[0]", Warning: "undefined field"}}
		}, "spec.validations[0]: undefined field"},
		{"a warning of an earlier version", func(p *admissionv1.ValidatingAdmissionPolicy, _ *admissionv1.ValidatingAdmissionPolicyBinding) {
			p.Status.TypeChecking.ExpressionWarnings = []admissionv1.ExpressionWarning{{FieldRef: "spec.validations[0]", Warning: "undefined field"}}
			p.Generation++
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &admissionv1.ValidatingAdmissionPolicy{
				ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: 2},
				Status:     admissionv1.ValidatingAdmissionPolicyStatus{ObservedGeneration: 2, TypeChecking: &admissionv1.TypeChecking{}},
			}
			b := &admissionv1.ValidatingAdmissionPolicyBinding{Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName: "p", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			}}
			tt.change(p, b)
			if got := Flaw(p, b); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestNamesAreSorted(t *testing.T) {
	if names := Names(); !slices.IsSorted(names) || len(names) < 10 {
		t.Errorf("names: %v", names)
	}
}
