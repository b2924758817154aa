// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// rights compares the roles of Berth's accounts, and their bindings, with those that are shipped. Further rights are an
// admin's to give.
func (c *judge) rights() []Result {
	var lacking, unread, kinds []string
	var why string
	for _, shipped := range c.shipped {
		kind := shipped.GetKind()
		if shipped.part != "rbac" {
			continue
		}
		key := KeyOf(shipped.Unstructured)
		found := c.found(key)
		switch {
		case found.Unread != "":
			unread, why = append(unread, key), found.Unread
		case found.Object == nil:
			lacking, kinds = append(lacking, key+" does not exist"), append(kinds, kind)
		case strings.HasSuffix(kind, "Binding"):
			if !binds(shipped.Unstructured, found.Object) {
				lacking, kinds = append(lacking, key+" does not bind the account to the role"), append(kinds, kind)
			}
		default:
			if lost := missingRules(shipped.Unstructured, found.Object); len(lost) > 0 {
				lacking, kinds = append(lacking, fmt.Sprintf("%s lacks %s", key, shortened(lost))), append(kinds, kind)
			}
		}
	}
	var out []Result
	if len(lacking) > 0 {
		id := idRoles
		if !slices.ContainsFunc(kinds, func(k string) bool { return !strings.HasSuffix(k, "Binding") }) {
			id = idBindings
		}
		r := failed(id, "roles do not allow what this version needs: %s", strings.Join(lacking, "; "))
		if c.otherVersion() {
			r.Status = Warning
		}
		out = append(out, r.run(c.applyAgain("rbac")).see(pageAccounts))
	}
	if len(unread) > 0 {
		out = append(out, unknown(idRoles, "%d roles and bindings could not be read: %s", len(unread), why).see(pageAccounts))
	}
	if len(out) == 0 {
		out = append(out, ok(idRoles, "the roles of Berth's accounts allow what this version needs, and are bound"))
	}
	return out
}

// missingRules returns the rights of a role that another one does not give.
func missingRules(want, have *unstructured.Unstructured) (lost []string) {
	var a, b rbacv1.ClusterRole // a Role has the same rules
	if runtime.DefaultUnstructuredConverter.FromUnstructured(want.Object, &a) != nil || runtime.DefaultUnstructuredConverter.FromUnstructured(have.Object, &b) != nil {
		return []string{"what can be read"}
	}
	given := rightsOf(b.Rules)
	for _, right := range slices.Sorted(maps.Keys(rightsOf(a.Rules))) {
		if !given[right] {
			lost = append(lost, right)
		}
	}
	return lost
}

// rightsOf spells rules out: "get gpunodes.berth.dev", "update leases.coordination.k8s.io NAME".
func rightsOf(rules []rbacv1.PolicyRule) map[string]bool {
	out := map[string]bool{}
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						out[strings.TrimSpace(verb+" "+strings.TrimSuffix(resource+"."+group, ".")+" "+name)] = true
					}
				}
			}
		}
	}
	return out
}

// binds says whether a binding binds all subjects of another one to its role.
func binds(want, have *unstructured.Unstructured) bool {
	var a, b rbacv1.ClusterRoleBinding // a RoleBinding has the same fields
	if runtime.DefaultUnstructuredConverter.FromUnstructured(want.Object, &a) != nil || runtime.DefaultUnstructuredConverter.FromUnstructured(have.Object, &b) != nil {
		return false
	}
	for _, subject := range a.Subjects {
		if !slices.Contains(b.Subjects, subject) {
			return false
		}
	}
	return a.RoleRef == b.RoleRef
}
