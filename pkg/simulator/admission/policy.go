// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"

	celgo "github.com/google/cel-go/cel"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/berth-dev/berth/manifests"
)

// shippedPolicies has the MutatingAdmissionPolicies that are installed with Berth.
const shippedPolicies = "policies/handoff.yaml"

// Shipped returns the policies that are installed with Berth.
func Shipped() ([]*admissionv1.MutatingAdmissionPolicy, error) {
	objects, err := manifests.Objects(shippedPolicies)
	if err != nil {
		return nil, err
	}
	var policies []*admissionv1.MutatingAdmissionPolicy
	for _, o := range objects {
		if o.GetKind() != "MutatingAdmissionPolicy" {
			continue
		}
		policy := &admissionv1.MutatingAdmissionPolicy{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, policy); err != nil {
			return nil, err
		}
		policies = append(policies, policy)
	}
	return policies, nil
}

// policy is a MutatingAdmissionPolicy for new pods, compiled as the apiserver does (apiserver,
// pkg/admission/plugin/policy/mutating/compilation.go, which is not exported).
type policy struct {
	name     string
	compiler *cel.CompositedCompiler
	matcher  matchconditions.Matcher // nil = all match
	patchers []patch.Patcher
}

// variable is a variable of a policy, as the compiler takes it. The apiserver has such a type too, beside all that loads
// policies and calls webhooks: 160 packages.
type variable struct{ name, expression string }

func (v *variable) GetName() string            { return v.name }
func (v *variable) GetExpression() string      { return v.expression }
func (v *variable) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.AnyType, celgo.DynType} }

func compile(p *admissionv1.MutatingAdmissionPolicy) (*policy, error) {
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return nil, err
	}
	options := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	var variables []cel.NamedExpressionAccessor
	for _, v := range p.Spec.Variables {
		variables = append(variables, &variable{v.Name, v.Expression})
	}
	compiler.CompileAndStoreVariables(variables, options, environment.StoredExpressions)
	out := &policy{name: p.Name, compiler: compiler}
	if len(p.Spec.MatchConditions) > 0 {
		conditions := make([]cel.ExpressionAccessor, len(p.Spec.MatchConditions))
		for i := range p.Spec.MatchConditions {
			conditions[i] = (*matchconditions.MatchCondition)(&p.Spec.MatchConditions[i])
		}
		out.matcher = matchconditions.NewMatcher(compiler.CompileCondition(conditions, options, environment.StoredExpressions),
			p.Spec.FailurePolicy, "policy", "mutate", p.Name)
	}
	options.HasPatchTypes = true
	for i, m := range p.Spec.Mutations {
		if m.JSONPatch == nil {
			return nil, fmt.Errorf("mutation %d of policy %s is a %s, which is not applied here", i, p.Name, m.PatchType)
		}
		out.patchers = append(out.patchers, patch.NewJSONPatcher(compiler.CompileMutatingEvaluator(
			&patch.JSONPatchCondition{Expression: m.JSONPatch.Expression}, options, environment.StoredExpressions)))
	}
	return out, nil
}

// isForNewPods says whether a policy is about the creation of pods.
func isForNewPods(p *admissionv1.MutatingAdmissionPolicy) bool {
	if p.Spec.MatchConstraints == nil {
		return false
	}
	has := func(list []string, want string) bool {
		return slices.Contains(list, want) || slices.Contains(list, "*")
	}
	return slices.ContainsFunc(p.Spec.MatchConstraints.ResourceRules, func(r admissionv1.NamedRuleWithOperations) bool {
		create := slices.Contains(r.Operations, admissionv1.Create) || slices.Contains(r.Operations, admissionv1.OperationAll)
		return create && has(r.APIGroups, "") && has(r.APIVersions, "v1") && has(r.Resources, "pods")
	})
}

var (
	podKind     = corev1.SchemeGroupVersion.WithKind("Pod")
	podResource = corev1.SchemeGroupVersion.WithResource("pods")
)

// apply returns a pod as the policy leaves it.
func (p *policy) apply(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	interfaces := admission.NewObjectInterfacesFromScheme(scheme.Scheme)
	pod = pod.DeepCopy()
	pod.SetGroupVersionKind(podKind)
	attributes, err := admission.NewVersionedAttributes(admission.NewAttributesRecord(pod, nil, podKind, pod.Namespace, pod.Name, podResource,
		"", admission.Create, &metav1.CreateOptions{}, false, &user.DefaultInfo{}), podKind, interfaces)
	if err != nil {
		return nil, err
	}
	ctx = p.compiler.CreateContext(ctx)
	if p.matcher != nil {
		switch result := p.matcher.Match(ctx, attributes, nil, nil); {
		case result.Error != nil:
			return nil, fmt.Errorf("policy %s: %w", p.name, result.Error)
		case !result.Matches:
			return pod, nil
		}
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: pod.Namespace}}
	for _, patcher := range p.patchers {
		patched, err := patcher.Patch(ctx, patch.Request{
			MatchedResource: podResource, VersionedAttributes: attributes, ObjectInterfaces: interfaces, Namespace: namespace,
		}, celconfig.RuntimeCELCostBudget)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", p.name, err)
		}
		attributes.UpdateObject(patched)
	}
	patched, ok := attributes.VersionedObject.Object().(*corev1.Pod)
	if !ok {
		return nil, errors.New("policy " + p.name + " made something else of a pod")
	}
	return patched, nil
}
