// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/version"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/plugin/policies"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// fault is one thing that is broken of a healthy cluster, and what is to be found of it.
type fault struct {
	name    string
	breaks  func(*testing.T, *Facts)
	id      string
	status  Status
	message string
	run     string // in the lines to run
	also    []string
}

const vap, vapb = "ValidatingAdmissionPolicy berth-allocation", "ValidatingAdmissionPolicyBinding berth-allocation"

// installFaults are of what is installed.
var installFaults = []fault{
	{
		name:   "an API server that the scheduler cannot emulate",
		breaks: func(_ *testing.T, f *Facts) { f.Server = version.MajorMinor(1, 33) },
		id:     idServerVersion, status: Failed, message: "1.33",
	},
	{
		name:   "an API server below the floor",
		breaks: func(_ *testing.T, f *Facts) { f.Server = version.MajorMinor(1, 34) },
		id:     idServerVersion, status: Failed, message: "does not take the label berth.dev/allocated",
	},
	{
		name:   "an API server that is much newer",
		breaks: func(_ *testing.T, f *Facts) { f.Server = version.MajorMinor(1, 39) },
		id:     idServerVersion, status: Warning, message: "more than one minor version newer",
	},
	{
		name: "an upgrade that stopped half-way",
		breaks: func(_ *testing.T, f *Facts) {
			f.pod("agent-gpu-b").Spec.Containers[0].Image = "registry.test:5000/berth-agent:v1.2.2@sha256:00"
		},
		id: idParts, status: Warning, message: "v1.2.2 (berth-agent) and v1.2.3 (berth-agent, berth-controller and berth-scheduler)", run: "rollout status daemonset/berth-agent",
	},
	{
		name:   "another version of this program",
		breaks: func(_ *testing.T, f *Facts) { f.Self = "v2.0.0" },
		id:     idOwnVersion, status: Warning, message: "this program is of version v2.0.0, the cluster's parts of v1.2.3",
	},
	{
		name: "an image that has no tag",
		breaks: func(_ *testing.T, f *Facts) {
			f.pod("controller-1").Spec.Containers[0].Image = "registry.test:5000/c@sha256:00"
		},
		id: idParts, status: Unknown, message: "no tag",
	},
	{
		name:   "a CustomResourceDefinition is missing",
		breaks: func(_ *testing.T, f *Facts) { delete(f.Installed, "CustomResourceDefinition gpunodes.berth.dev") },
		id:     idCRDInstalled, status: Failed, message: "gpunodes.berth.dev is not installed", run: "kubectl apply -k manifests/crd",
	},
	{
		name: "a CustomResourceDefinition is not established",
		breaks: func(t *testing.T, f *Facts) {
			set(t, f.object(t, "CustomResourceDefinition gpunodes.berth.dev"), []any{
				map[string]any{"type": "NamesAccepted", "status": "True"},
				map[string]any{"type": "Established", "status": "False", "message": "not all names are accepted"},
			}, "status", "conditions")
		},
		id: idCRDInstalled, status: Failed, message: "is not Established: not all names are accepted", run: "kubectl describe crd gpunodes.berth.dev",
	},
	{
		name: "a CustomResourceDefinition of another version",
		breaks: func(t *testing.T, f *Facts) {
			crd := f.Installed["CustomResourceDefinition modelprofiles.berth.dev"].Object
			versionOf(crd, "v1alpha1") // a copy
			versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
			versions[0].(map[string]any)["name"] = "v1beta9"
			set(t, crd.Object, versions, "spec", "versions")
		},
		id: idCRDVersion, status: Failed, message: "modelprofiles.berth.dev does not serve and store v1alpha1",
	},
	{
		name: "objects that are stored in a version of the future",
		breaks: func(t *testing.T, f *Facts) {
			set(t, f.object(t, "CustomResourceDefinition gpunodes.berth.dev"), []any{"v1alpha1", "v1"}, "status", "storedVersions")
		},
		id: idCRDVersion, status: Warning, message: "may be stored as v1",
	},
	{
		name:   "a CustomResourceDefinition lacks a field",
		breaks: func(t *testing.T, f *Facts) { dropField(t, f) },
		id:     idCRDFields, status: Failed, message: "lacks 1 field that this version writes", run: "kubectl apply -k manifests/crd",
	},
	{
		name: "a CustomResourceDefinition lacks a field that another version has not",
		breaks: func(t *testing.T, f *Facts) {
			dropField(t, f)
			f.Self = "v2.0.0"
		},
		id: idCRDFields, status: Warning, message: "status.handOff", also: []string{idOwnVersion},
	},
	{
		name:   "a policy is missing",
		breaks: func(_ *testing.T, f *Facts) { delete(f.Installed, vap) },
		id:     idPolicyInstalled, status: Failed, message: "berth-allocation: its policy does not exist", run: "kubectl apply -k berth",
	},
	{
		name:   "the binding of a policy is missing",
		breaks: func(_ *testing.T, f *Facts) { delete(f.Installed, vapb) },
		id:     idPolicyInstalled, status: Failed, message: "berth-allocation: its binding does not exist", run: "kubectl apply -k berth",
	},
	{
		name: "of a Helm release",
		breaks: func(_ *testing.T, f *Facts) {
			delete(f.Installed, vapb)
			for i := range f.Deployments {
				f.Deployments[i].Annotations = map[string]string{"meta.helm.sh/release-name": "mine"}
			}
		},
		id: idPolicyInstalled, status: Failed, message: "its binding", run: "helm upgrade mine charts/berth --namespace berth-system --reuse-values",
	},
	{
		name: "the binding only warns",
		breaks: func(t *testing.T, f *Facts) {
			set(t, f.object(t, vapb), []any{"Warn"}, "spec", "validationActions")
		},
		id: idPolicyEnforced, status: Failed, message: "berth-allocation: its binding does not deny",
	},
	{
		name:   "a policy that lets through what it fails on",
		breaks: func(t *testing.T, f *Facts) { set(t, f.object(t, vap), "Ignore", "spec", "failurePolicy") },
		id:     idPolicyEnforced, status: Failed, message: "berth-allocation: its failurePolicy is Ignore",
	},
	{
		name: "an expression that the API server does not understand",
		breaks: func(t *testing.T, f *Facts) {
			set(t, f.object(t, vap), map[string]any{"expressionWarnings": []any{map[string]any{"fieldRef": "spec.validations[0].expression", "warning": "no such field"}}}, "status", "typeChecking")
		},
		id: idPolicyTypes, status: Failed, message: "berth-allocation: the apiserver warns of spec.validations[0].expression: no such field",
	},
	{
		name: "a policy that somebody changed",
		breaks: func(t *testing.T, f *Facts) {
			object := f.object(t, vap)
			validations, _, _ := unstructured.NestedSlice(object, "spec", "validations")
			validations[0].(map[string]any)["expression"] = "true"
			set(t, object, validations, "spec", "validations")
		},
		id: idPolicyShipped, status: Warning, message: "berth-allocation (policy: validations[0].expression)", run: "kubectl diff -k berth",
	},
	{
		name: "a binding that somebody narrowed",
		breaks: func(t *testing.T, f *Facts) {
			set(t, f.object(t, vapb), map[string]any{"matchPolicy": "Equivalent", "objectSelector": map[string]any{}, "namespaceSelector": map[string]any{
				"matchLabels": map[string]any{"a": "b"},
			}}, "spec", "matchResources")
		},
		id: idPolicyShipped, status: Warning, message: "berth-allocation (binding: matchResources)",
	},
	{
		name:   "limits that the scheduler does not write",
		breaks: func(t *testing.T, f *Facts) { limitBy(t, f, berthv1alpha1.EnforcementNone, "'NVIDIAToolkit'") },
		id:     idEnforcement, status: Failed, message: "argument enforcement is None, and the variable enforcement of the policy berth-handoff is 'NVIDIAToolkit'",
	},
	{
		name:   "limits that the pods do not refer to",
		breaks: func(t *testing.T, f *Facts) { limitBy(t, f, berthv1alpha1.EnforcementToolkit, "'None'") },
		id:     idEnforcement, status: Failed, message: "argument enforcement is NVIDIAToolkit, and", run: "get configmap",
	},
	{
		name: "half of an optional policy",
		breaks: func(_ *testing.T, f *Facts) {
			f.Installed["ValidatingAdmissionPolicy berth-limits"] = Found{Object: &unstructured.Unstructured{Object: map[string]any{}}}
		},
		id: idPolicyInstalled, status: Failed, message: "berth-limits: its binding does not exist",
	},
	{
		name:   "no mutating policies are served",
		breaks: func(_ *testing.T, f *Facts) { f.Mutating = "" },
		id:     idPolicyInstalled, status: Warning, message: "berth-handoff and berth-handoff-ephemeral write nothing into pods",
	},
	{
		name: "the scheduler told that a policy is missing",
		breaks: func(_ *testing.T, f *Facts) {
			f.Events = []corev1.Event{
				{Reason: words.EventPoliciesInForce, LastTimestamp: metav1.NewTime(now.Add(-time.Hour))},
				{Reason: words.EventPoliciesMissing, Message: "berth-binding is gone", LastTimestamp: metav1.NewTime(now.Add(-time.Minute))},
			}
		},
		id: idPolicyFound, status: Failed, message: "the scheduler told 60s ago: berth-binding is gone",
	},
	{
		name: "a dry run that was let through",
		breaks: func(_ *testing.T, f *Facts) {
			f.Probed = []policies.Finding{{Policy: "berth-agent", Verdict: policies.InForce}, {Policy: "berth-devices", Verdict: policies.Missing, Why: "what it has to refuse was let through"}}
		},
		id: idPolicyRefuses, status: Failed, message: "berth-devices: what it has to refuse was let through",
	},
	{
		name: "a dry run that could not be made",
		breaks: func(_ *testing.T, f *Facts) {
			f.Probed = []policies.Finding{{Policy: "berth-devices", Verdict: policies.Unknown, Why: "it could not be tried: forbidden"}}
		},
		id: idPolicyRefuses, status: Unknown, message: "berth-devices: it could not be tried",
	},
	{
		name:   "a role is missing",
		breaks: func(_ *testing.T, f *Facts) { delete(f.Installed, "ClusterRole berth-scheduler") },
		id:     idRoles, status: Failed, message: "ClusterRole berth-scheduler does not exist", run: "kubectl apply -k berth",
	},
	{
		name: "a role of an older version",
		breaks: func(t *testing.T, f *Facts) {
			object := f.object(t, "Role berth-system/berth-agent")
			object["rules"] = []any{map[string]any{"apiGroups": []any{"coordination.k8s.io"}, "resources": []any{"leases"}, "verbs": []any{"get", "create", "patch", "update"}}}
		},
		id: idRoles, status: Failed, message: "Role berth-system/berth-agent lacks delete leases.coordination.k8s.io",
	},
	{
		name: "a role that is bound to nobody",
		breaks: func(t *testing.T, f *Facts) {
			delete(f.object(t, "ClusterRoleBinding berth-controller"), "subjects")
		},
		id: idBindings, status: Failed, message: "ClusterRoleBinding berth-controller does not bind the account",
	},
}

// limitBy sets who limits memory, by the scheduler's argument and by the policy's variable. All nodes do it.
func limitBy(t *testing.T, f *Facts, argument berthv1alpha1.Enforcement, expression string) {
	t.Helper()
	f.Args.Enforcement = argument
	for i := range f.GPUNodes {
		f.GPUNodes[i].Status.HandOff.Runtimes[0].MemoryLimits = &berthv1alpha1.MemoryLimits{State: berthv1alpha1.MemoryLimitEnforced}
		f.Nodes[i].Status.Conditions = append(f.Nodes[i].Status.Conditions, corev1.NodeCondition{Type: berthv1alpha1.ConditionGPUFractioning, Status: corev1.ConditionTrue})
	}
	policy := f.object(t, "MutatingAdmissionPolicy berth-handoff")
	variables, _, _ := unstructured.NestedSlice(policy, "spec", "variables")
	for _, v := range variables {
		if v := v.(map[string]any); v["name"] == "enforcement" {
			v["expression"] = expression
		}
	}
	set(t, policy, variables, "spec", "variables")
}

// TestLimitsThatAgree: what an admin sets is no change of a policy, as long as both say the same.
func TestLimitsThatAgree(t *testing.T) {
	for argument, expression := range map[berthv1alpha1.Enforcement]string{
		berthv1alpha1.EnforcementToolkit: "'NVIDIAToolkit'", berthv1alpha1.EnforcementGPUSharing: "'None'", "": "'NVIDIAToolkit'",
	} {
		f := healthy()
		limitBy(t, f, argument, expression)
		if argument == "" {
			f.Args = nil // they are not known
		}
		if r := Judge(f); r.Status != OK {
			t.Errorf("%s and %s: %+v", argument, expression, r)
		}
	}
}
