// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestMissingPoliciesStopPlacing takes a policy's binding away under a scheduler that is told to stop then.
func TestMissingPoliciesStopPlacing(t *testing.T) {
	shipped, err := manifests.FS.ReadFile("scheduler/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("policyCheckInterval: 5m", "policyCheckInterval: 1s", "onMissingPolicies: Report", "onMissingPolicies: StopPlacing").
		Replace(string(shipped))
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	lab := harness.Start(t, "--bare", "--no-controller", "--scheduler-config", file)
	s := newSite(t, lab, "site", 1, "80Gi")
	lab.WaitBound(t, harness.Create(t, lab, s.pod("before", "10Gi")))
	policiesAre(t, lab, true)
	if events := policyEvents(t, lab); len(events) > 0 {
		t.Errorf("told while all is well: %v", events)
	}

	bindings := lab.Clientset.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	binding, err := bindings.Get(t.Context(), "berth-allocation", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := bindings.Delete(t.Context(), binding.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	policiesAre(t, lab, false)
	pod := harness.Create(t, lab, s.pod("during", "10Gi"))
	if message := lab.WaitUnschedulable(t, pod); !strings.Contains(message, "admission policies of Berth are not known to be in force: berth-allocation") {
		t.Errorf("the pod is told %q", message)
	}
	plain := s.pod("plain", "10Gi")
	plain.Annotations = nil
	lab.WaitBound(t, harness.Create(t, lab, plain))

	restored := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: binding.Name}, Spec: binding.Spec}
	if _, err := bindings.Create(t.Context(), restored, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	policiesAre(t, lab, true)
	lab.WaitBound(t, pod)
	harness.Eventually(t, "both Events are written", func(context.Context) (bool, string) {
		events := policyEvents(t, lab)
		return len(events) == 2 && strings.HasPrefix(events[0], "AdmissionPoliciesMissing: No pod that asks for GPU memory is placed.") &&
			strings.HasPrefix(events[1], "AdmissionPoliciesInForce: "), fmt.Sprint(events)
	})
}

// policiesAre waits until metric and /readyz say that all policies are in force, or that berth-allocation alone is not.
func policiesAre(t *testing.T, lab *harness.Lab, inForce bool) {
	t.Helper()
	value, code := "0", http.StatusInternalServerError
	if inForce {
		value, code = "1", http.StatusOK
	}
	harness.Eventually(t, fmt.Sprintf("policies are in force: %v", inForce), func(context.Context) (bool, string) {
		metrics, state := schedulerMetrics(t, lab), ""
		for _, series := range []string{`{policy="berth-allocation"} ` + value, `{policy="berth-binding"} 1`, `{policy="berth-agent"} 1`} {
			if !strings.Contains(metrics, "\nberth_scheduler_policy_in_force"+series+"\n") {
				state += "no " + series + "; "
			}
		}
		for _, path := range []string{"/readyz", "/readyz/berth-policies"} {
			if got, text := lab.AskScheduler(t, path, ""); got != code {
				state += fmt.Sprintf("%s: %d %s; ", path, got, text)
			}
		}
		if code, text := lab.AskScheduler(t, "/livez", ""); code != http.StatusOK {
			t.Errorf("/livez: %d %s", code, text)
		}
		return state == "", state
	})
}

// policyEvents returns the Events of the scheduler's Lease about policies, in their order.
func policyEvents(t *testing.T, lab *harness.Lab) (out []string) {
	t.Helper()
	events, err := lab.Clientset.EventsV1().Events(berthv1alpha1.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events.Items {
		if e.Regarding.Kind == "Lease" && strings.HasPrefix(e.Reason, "AdmissionPolicies") {
			out = append(out, e.Reason+": "+e.Note)
		}
	}
	return out
}
