// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/plugin/policies"
)

// checker returns what the scheduler checks policies with, under its own account.
func checker(t *testing.T, c *testCluster, leftOut ...string) *policies.Checker {
	t.Helper()
	config, err := c.controlPlane.ServiceAccountConfig(t.Context(), berthv1alpha1.Namespace, "berth-scheduler", nil)
	if err != nil {
		t.Fatal(err)
	}
	checker, err := policies.NewChecker(config, leftOut)
	if err != nil {
		t.Fatal(err)
	}
	return checker
}

// verdicts are the policies that are not in force, with what was found, by name.
func verdicts(findings []policies.Finding) map[string]policies.Verdict {
	out := map[string]policies.Verdict{}
	for _, f := range findings {
		if f.Verdict != policies.InForce {
			out[f.Policy] = f.Verdict
		}
	}
	return out
}

// found waits until a round finds what it should, as the apiserver loads policies once a second.
func found(t *testing.T, what string, c *policies.Checker, want map[string]policies.Verdict) {
	t.Helper()
	var findings []policies.Finding
	err := wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		findings = c.Check(ctx)
		return cmp.Equal(want, verdicts(findings)), nil
	})
	if err != nil {
		t.Fatalf("%s (-want +got):\n%s%v", what, cmp.Diff(want, verdicts(findings)), findings)
	}
}

// withoutBindings deletes bindings of policies until the test, or the returned function, puts them back.
func (c *testCluster) withoutBindings(t *testing.T, names ...string) (restore func()) {
	t.Helper()
	client, mapper := dynamic.NewForConfigOrDie(c.controlPlane.Config()), c.mapper()
	objects, err := manifests.Objects("policies")
	if err != nil {
		t.Fatal(err)
	}
	var deleted []*unstructured.Unstructured
	for _, object := range objects {
		gvk := object.GroupVersionKind()
		if !strings.HasSuffix(gvk.Kind, "Binding") || !slices.Contains(names, object.GetName()) {
			continue
		}
		mapping, err := mapper.RESTMapping(gvk.GroupKind())
		if err != nil {
			t.Fatal(err)
		}
		object.SetAPIVersion(mapping.GroupVersionKind.GroupVersion().String())
		if err := client.Resource(mapping.Resource).Delete(t.Context(), object.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		deleted = append(deleted, object)
	}
	if len(deleted) != len(names) {
		t.Fatalf("%d bindings of %v were deleted", len(deleted), names)
	}
	restore = func() {
		for _, object := range deleted {
			if err := apply(context.WithoutCancel(t.Context()), client, mapper, object); err != nil {
				t.Error(err)
			}
		}
		deleted = nil
	}
	t.Cleanup(restore)
	return restore
}

func TestEachShippedPolicyIsChecked(t *testing.T) {
	objects, err := manifests.Objects("policies")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, object := range objects {
		if strings.HasSuffix(object.GetKind(), "AdmissionPolicy") && object.GetName() != "berth-probe" {
			want = append(want, object.GetName())
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, policies.Names()); diff != "" {
		t.Errorf("policies (-shipped +checked):\n%s", diff)
	}
}

// TestMissingPoliciesAreFound takes bindings away, and puts them back.
func TestMissingPoliciesAreFound(t *testing.T) {
	c := needCluster(t)
	check := checker(t, c)
	none := map[string]policies.Verdict{}
	found(t, "all is well", check, none)

	all := map[string]policies.Verdict{}
	for _, name := range policies.Names() {
		all[name] = policies.Missing
	}
	restore := c.withoutBindings(t, policies.Names()...)
	found(t, "all are missing", check, all)
	restore()
	found(t, "all are back", check, none)

	restore = c.withoutBindings(t, "berth-allocation")
	found(t, "one is missing", check, map[string]policies.Verdict{"berth-allocation": policies.Missing})
	found(t, "and not expected", checker(t, c, "berth-allocation"), none)
	restore()

	restore = c.withoutBindings(t, "berth-probe")
	found(t, "nobody tells what the hand-off does", check, map[string]policies.Verdict{"berth-handoff": policies.Unknown})
	restore()
	found(t, "it is told again", check, none)

	bindings := c.admin.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	for _, name := range []string{"berth-devices", "berth-binding"} { // one that is tried, and one that is read
		binding, err := bindings.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		binding.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Warn}
		if _, err := bindings.Update(t.Context(), binding, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		found(t, name+" only warns", check, map[string]policies.Verdict{name: policies.Missing})
		restore := c.withoutBindings(t, name)
		restore()
		found(t, name+" denies", check, none)
	}
}

// TestProbesNeedTheirAccount: an account that is exempt, or that may not do what is tried, shows nothing.
func TestProbesNeedTheirAccount(t *testing.T) {
	c := needCluster(t)
	role, err := c.admin.RbacV1().Roles(policies.Namespace).Get(t.Context(), "berth-probes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.admin.RbacV1().Roles(policies.Namespace).Delete(t.Context(), role.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		role.ResourceVersion = ""
		if _, err := c.admin.RbacV1().Roles(policies.Namespace).Create(context.WithoutCancel(t.Context()), role, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	unknown := map[string]policies.Verdict{}
	for _, name := range policies.Names() {
		if !slices.Contains([]string{"berth-binding", "berth-controller-node", "berth-controller-report", "berth-handoff-ephemeral", "berth-leader-term"}, name) { // these are read
			unknown[name] = policies.Unknown
		}
	}
	found(t, "the scheduler may not use the account", checker(t, c), unknown)

	config := c.controlPlane.Config()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return asScheduler{next} })
	exempt, err := policies.NewChecker(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	found(t, "tried by the scheduler itself", exempt, map[string]policies.Verdict{
		"berth-agent": policies.Missing, "berth-allocation": policies.Missing, "berth-devices": policies.Missing,
	})
}

// asScheduler sends what the account of the probes sends as the scheduler, with the permissions of an administrator.
type asScheduler struct{ http.RoundTripper }

func (a asScheduler) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Impersonate-User") != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Impersonate-User", schedulerUser)
		r.Header.Set("Impersonate-Group", "system:masters")
	}
	return a.RoundTripper.RoundTrip(r)
}

// TestWhoProbesCanDoNothingElse asks the apiserver what the two accounts may do.
func TestWhoProbesCanDoNothingElse(t *testing.T) {
	c := needCluster(t)
	const probeUser = "system:serviceaccount:" + policies.Namespace + ":" + policies.Account
	for _, tc := range []struct {
		user, verb, resource, subresource, namespace, name string
		allowed                                            bool
	}{
		{schedulerUser, "impersonate", "serviceaccounts", "", policies.Namespace, policies.Account, true},
		{schedulerUser, "impersonate", "serviceaccounts", "", policies.Namespace, "default", false},
		{schedulerUser, "impersonate", "serviceaccounts", "", berthv1alpha1.Namespace, policies.Account, false},
		{schedulerUser, "impersonate", "users", "", "", adminUser, false},
		{schedulerUser, "impersonate", "groups", "", "", "system:masters", false},
		{schedulerUser, "create", "serviceaccounts", "token", policies.Namespace, policies.Account, false},
		{schedulerUser, "create", "pods", "", policies.Namespace, "", false},
		{probeUser, "create", "pods", "", policies.Namespace, "", true},
		{probeUser, "create", "pods", "binding", policies.Namespace, "", true},
		{probeUser, "create", "pods", "", metav1.NamespaceDefault, "", false},
		{probeUser, "create", "pods", "binding", metav1.NamespaceDefault, "", false},
		{probeUser, "get", "pods", "", policies.Namespace, "", false},
		{probeUser, "delete", "resourcequotas", "", policies.Namespace, "", false},
	} {
		review := &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User: tc.user, Groups: []string{"system:serviceaccounts", "system:authenticated"},
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Verb: tc.verb, Resource: tc.resource, Subresource: tc.subresource, Namespace: tc.namespace, Name: tc.name,
				},
			},
		}
		// The authorizer may lag behind what another test put back.
		err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
			answer, err := c.admin.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			return err == nil && answer.Status.Allowed == tc.allowed, err
		})
		if err != nil {
			t.Errorf("%+v: not so: %v", tc, err)
		}
	}
}

// TestNothingIsMadeForProbes tries to make a pod where probes are tried, as an administrator, and without the policies.
func TestNothingIsMadeForProbes(t *testing.T) {
	c := needCluster(t)
	restore := c.withoutBindings(t, "berth-allocation", "berth-probe")
	defer restore()
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		pod := requestingPod("berth-probe-handoff")
		pod.Namespace, pod.Annotations, pod.Spec.SchedulerName = policies.Namespace, nil, corev1.DefaultSchedulerName
		pod.Spec.ServiceAccountName = policies.Account
		pod.Spec.SecurityContext = &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
		pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}
		_, err := c.admin.CoreV1().Pods(policies.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		if err == nil {
			return false, fmt.Errorf("a pod was made in %s", policies.Namespace)
		}
		return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: berth-probes"), nil
	})
	if err != nil {
		t.Error(err)
	}
}
