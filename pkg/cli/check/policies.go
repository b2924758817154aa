// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/plugin/policies"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// changeable are the variables that an admin, or the chart, sets.
var changeable = map[string][]string{"berth-handoff": {"runtimeClass", "enforcement"}, "berth-devices": {"exemptNamespaces"}}

// policies compares the policies and their bindings with those that are shipped, and tells what is known of whether they
// work: what the scheduler found, and what dry runs did.
func (c *judge) policies() []Result {
	p := policyFindings{}
	resource := c.resource()
	for _, shipped := range c.shipped {
		// Where they should be there, and are not at all, that is told as one.
		if shipped.part != "policies" && (shipped.part != resourcePart || !c.resourceOn() || len(resource) > 0) {
			continue
		}
		name := shipped.GetName()
		switch {
		case slices.Contains(c.LeftOut(), name):
			p.leftOut = append(p.leftOut, name)
		case strings.HasPrefix(shipped.GetKind(), "Mutating") && c.unread(MutatingVersion) != "" && !c.FromFile:
			p.unread, p.why = append(p.unread, name), c.unread(MutatingVersion)
		case strings.HasPrefix(shipped.GetKind(), "Mutating") && c.Mutating == "" && !c.FromFile:
			p.notServed = append(p.notServed, name)
		default:
			c.policyPart(&p, &shipped)
		}
	}
	c.optionalPolicies(&p)
	out := p.results(c)
	out = append(out, c.enforcement()...)
	out = append(out, resource...)
	out = append(out, c.quotas()...)
	out = append(out, c.foundByScheduler()...)
	return append(out, c.probed()...)
}

// policyFindings are what was found, as "POLICY: why".
type policyFindings struct {
	missing, toothless, mistyped, differ, unread, good, leftOut, notServed []string
	why                                                                    string
}

func (c *judge) policyPart(p *policyFindings, shipped *shippedObject) {
	found := c.found(KeyOf(shipped.Unstructured))
	name, isBinding := shipped.GetName(), strings.HasSuffix(shipped.GetKind(), "Binding")
	what := "policy"
	if isBinding {
		what = "binding"
	}
	switch {
	case found.Unread != "":
		p.unread, p.why = append(p.unread, name), found.Unread
		return
	case found.Object == nil:
		p.missing = append(p.missing, name+": its "+what+" does not exist")
		return
	}
	p.good = append(p.good, name)
	want, have := specOf(shipped.Unstructured), specOf(found.Object)
	p.flaws(name, want["failurePolicy"], found.Object, c.found(strings.TrimSuffix(KeyOf(shipped.Unstructured), " "+name)+"Binding "+name).Object)
	for _, told := range []string{"failurePolicy", "validationActions"} {
		delete(want, told)
		delete(have, told)
	}
	if !isBinding {
		for _, variable := range changeable[name] {
			forgetVariable(want, variable)
			forgetVariable(have, variable)
		}
	}
	if paths := differences(want, have, ""); len(paths) > 0 {
		p.differ = append(p.differ, fmt.Sprintf("%s (%s: %s)", name, what, shortened(paths)))
	}
}

// flaws adds what keeps a policy from refusing anything. onError is its failurePolicy as it is shipped; binding is nil for a
// binding itself, and where there is none.
func (p *policyFindings) flaws(name string, onError any, object, binding *unstructured.Unstructured) {
	if has, ok, _ := unstructured.NestedString(object.Object, "spec", "failurePolicy"); ok && has != "Fail" && onError == "Fail" {
		p.toothless = append(p.toothless, name+": its failurePolicy is "+has+", so that an error in it lets everything through")
	}
	if object.GetKind() != "ValidatingAdmissionPolicy" || binding == nil || onError == "Ignore" { // such a one warns, and refuses nothing
		return
	}
	var a admissionv1.ValidatingAdmissionPolicy
	var b admissionv1.ValidatingAdmissionPolicyBinding
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &a); err != nil {
		p.toothless = append(p.toothless, name+": "+err.Error())
		return
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(binding.Object, &b); err != nil {
		p.toothless = append(p.toothless, name+": "+err.Error())
		return
	}
	switch why := policies.Flaw(&a, &b); {
	case why == "":
	case strings.HasPrefix(why, policies.TypeWarning):
		p.mistyped = append(p.mistyped, name+": "+why)
	default:
		p.toothless = append(p.toothless, name+": "+why)
	}
}

// optionalPolicies adds those that may be installed or not: as a whole.
func (c *judge) optionalPolicies(p *policyFindings) {
	for _, name := range optional {
		policy := c.found(keyOf("ValidatingAdmissionPolicy", "", name))
		binding := c.found(keyOf("ValidatingAdmissionPolicyBinding", "", name))
		switch {
		case policy.Unread != "" || binding.Unread != "" || policy.Object == nil && binding.Object == nil:
			continue // an installation without it is as good
		case policy.Object == nil:
			p.missing = append(p.missing, name+": its policy does not exist")
		case binding.Object == nil:
			p.missing = append(p.missing, name+": its binding does not exist")
		default:
			p.good = append(p.good, name)
			p.flaws(name, "Fail", policy.Object, binding.Object)
		}
	}
}

func (p *policyFindings) results(c *judge) (out []Result) {
	again := c.applyAgain("policies")
	if len(p.missing) > 0 {
		out = append(out, failed(idPolicyInstalled, "not enforced: %s", strings.Join(p.missing, "; ")).run(again).see(pagePolicies))
	}
	if len(p.toothless) > 0 {
		out = append(out, failed(idPolicyEnforced, "installed, but not enforced: %s", strings.Join(p.toothless, "; ")).run(again).see(pagePolicies))
	}
	if len(p.mistyped) > 0 {
		out = append(out, failed(idPolicyTypes, "the API server does not understand an expression: %s", strings.Join(p.mistyped, "; ")).run(again).see(pageSupport))
	}
	if len(p.differ) > 0 {
		r := warning(idPolicyShipped, "not as this version ships them: %s. Somebody has changed them, or they are of another version", strings.Join(p.differ, "; "))
		out = append(out, r.run(c.diff("policies")).see(pagePolicies))
	}
	// One of which a part could not be read is not known to be good.
	good := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(p.good))), func(name string) bool { return slices.Contains(p.unread, name) })
	if len(out) == 0 && len(good) > 0 {
		out = append(out, ok(idPolicyInstalled, "%d policies and their bindings are there, deny, and are as this version ships them", len(good)))
	}
	if len(p.unread) > 0 {
		names := slices.Compact(slices.Sorted(slices.Values(p.unread)))
		out = append(out, unknown(idPolicyInstalled, "%d policies could not be read: %s", len(names), p.why).of(names...))
	}
	if names := slices.Compact(slices.Sorted(slices.Values(p.leftOut))); len(names) > 0 {
		out = append(out, ok(idPolicyInstalled, "%s left out on purpose, as the scheduler's argument policiesLeftOut says", listed(names)))
	}
	if names := slices.Compact(slices.Sorted(slices.Values(p.notServed))); len(names) > 0 {
		out = append(out, warning(idPolicyInstalled, "the API server serves no mutating admission policies, so that %s write nothing into pods: users write the lines by hand", listed(names)).
			see(pageOlder))
	}
	return out
}

// enforcement compares who limits memory by the scheduler's argument with whom the hand-off is for: pods that one has told of a
// limit, and the other not, are not placed.
func (c *judge) enforcement() []Result {
	policy := c.found(keyOf("MutatingAdmissionPolicy", "", "berth-handoff")).Object
	if policy == nil || c.Args == nil {
		return nil
	}
	expression, ok := variable(policy, "enforcement")
	if !ok {
		return nil // of a version that has none, which is told elsewhere
	}
	limits := c.Args.Enforcement == berthv1alpha1.EnforcementToolkit
	if told := strings.Trim(expression, "' ") == string(berthv1alpha1.EnforcementToolkit); told == limits {
		return nil
	}
	return []Result{failed(idEnforcement, "the scheduler's argument enforcement is %s, and the variable enforcement of the policy berth-handoff is %s: new pods are not placed where it matters",
		c.Args.Enforcement, expression).run(c.editConfig()...).see(pageEnforcement)}
}

// foundByScheduler tells what the scheduler, which tries its policies every few minutes, wrote as an Event last.
func (c *judge) foundByScheduler() []Result {
	if why := c.unread(Events); why != "" {
		return []Result{unknown(idPolicyFound, "what the scheduler found of the policies is not known: Events could not be read: %s", why)}
	}
	var last *corev1.Event
	for i := range c.Events {
		e := &c.Events[i]
		if (e.Reason == words.EventPoliciesMissing || e.Reason == words.EventPoliciesInForce) && (last == nil || lastTime(e).After(lastTime(last))) {
			last = e
		}
	}
	if last == nil || last.Reason == words.EventPoliciesInForce {
		return nil // it tells what is wrong; that nothing was told is no proof
	}
	return []Result{failed(idPolicyFound, "the scheduler told %s ago: %s", c.ago(lastTime(last)), last.Message).run(c.applyAgain("policies")).see(pagePolicies)}
}

// probed judges what dry runs found.
func (c *judge) probed() []Result {
	if c.Probed == nil {
		return nil
	}
	var let, unknowns []string
	tried := 0
	for _, f := range c.Probed {
		switch f.Verdict {
		case policies.Missing:
			let = append(let, f.String())
		case policies.Unknown:
			unknowns = append(unknowns, f.String())
		default:
			tried++
		}
	}
	var out []Result
	if len(let) > 0 {
		out = append(out, failed(idPolicyRefuses, "tried, and not in force: %s", strings.Join(let, "; ")).run(c.applyAgain("policies")).see(pagePolicies))
	}
	if len(unknowns) > 0 {
		out = append(out, unknown(idPolicyRefuses, "not tried: %s", strings.Join(unknowns, "; ")).see(pagePolicies))
	}
	if tried > 0 {
		out = append(out, ok(idPolicyRefuses, "%d policies were tried by dry runs, or read where none shows them, and are in force", tried))
	}
	return out
}

func specOf(o *unstructured.Unstructured) map[string]any {
	spec, _, _ := unstructured.NestedMap(o.Object, "spec") // a copy
	return spec
}

// forgetVariable empties the expression of a policy's variable.
func forgetVariable(spec map[string]any, name string) {
	variables, _ := spec["variables"].([]any)
	for _, item := range variables {
		if v, ok := item.(map[string]any); ok && v["name"] == name {
			v["expression"] = ""
		}
	}
}

// variable returns the expression of a policy's variable; false if there is none.
func variable(o *unstructured.Unstructured, name string) (string, bool) {
	variables, _, _ := unstructured.NestedSlice(o.Object, "spec", "variables")
	for _, item := range variables {
		if v, ok := item.(map[string]any); ok && v["name"] == name {
			expression, ok := v["expression"].(string)
			return expression, ok
		}
	}
	return "", false
}

// isDefault says whether a field of a policy is as the API server fills it in.
func isDefault(key string, value any) bool {
	switch key {
	case "matchPolicy":
		return value == "Equivalent"
	case "scope":
		return value == "*"
	case "failurePolicy":
		return value == "Fail"
	case "namespaceSelector", "objectSelector", "matchResources":
		m, ok := value.(map[string]any)
		for k, v := range m {
			ok = ok && isDefault(k, v)
		}
		return ok
	}
	return false
}

// differences returns the paths at which two specs differ, defaults aside.
func differences(want, have any, path string) (out []string) {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return []string{path}
		}
		keys := map[string]bool{}
		for k, v := range w {
			keys[k] = !isDefault(k, v)
		}
		for k, v := range h {
			keys[k] = keys[k] || !isDefault(k, v)
		}
		for _, k := range sortedTrue(keys) {
			below := strings.TrimPrefix(path+"."+k, ".")
			if _, both := w[k]; !both || h[k] == nil {
				out = append(out, below)
			} else {
				out = append(out, differences(w[k], h[k], below)...)
			}
		}
		return out
	case []any:
		h, ok := have.([]any)
		if !ok || len(w) != len(h) {
			return []string{path}
		}
		for i := range w {
			out = append(out, differences(w[i], h[i], fmt.Sprintf("%s[%d]", path, i))...)
		}
		return out
	}
	if !reflect.DeepEqual(want, have) {
		return []string{path}
	}
	return nil
}

func sortedTrue(keys map[string]bool) (out []string) {
	for k, yes := range keys {
		if yes {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}
