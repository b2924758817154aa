// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// tenant makes a namespace that takes pods, until the test ends.
func (c *testCluster) tenant(t *testing.T, name string, annotations map[string]string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
	if _, err := c.admin.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.admin.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{})
	})
	eventually(t, name+" has its service account", func(ctx context.Context) (bool, error) {
		_, err := c.admin.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
}

func eventually(t *testing.T, what string, met wait.ConditionWithContextFunc) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 20*time.Second, true, met); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestDocumentedQuotasLimit applies the ResourceQuotas of docs/security.md and makes pods until they refuse.
func TestDocumentedQuotasLimit(t *testing.T) {
	c := needCluster(t)
	page, err := os.ReadFile(filepath.Join("..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\napiVersion: v1\nkind: ResourceQuota\n")
	text, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("docs/security.md has no ResourceQuota")
	}
	const namespace = "team-a"
	c.tenant(t, namespace, nil)
	c.with(t, []byte("apiVersion: v1\nkind: ResourceQuota\n"+text))
	eventually(t, "the quotas are counted", func(ctx context.Context) (bool, error) {
		quotas, err := c.admin.CoreV1().ResourceQuotas(namespace).List(ctx, metav1.ListOptions{})
		if err != nil || len(quotas.Items) != 3 {
			return false, err
		}
		for i := range quotas.Items {
			if len(quotas.Items[i].Status.Hard) == 0 {
				return false, nil
			}
		}
		return true, nil
	})
	create := func(name, class string) error {
		pod := requestingPod(name)
		pod.Spec.PriorityClassName = class
		_, err := c.as(adminUser, nil).CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
		return err
	}
	for _, tc := range []struct{ name, class, refusedBy string }{
		{"interactive-1", "berth-interactive", ""},
		{"interactive-2", "berth-interactive", ""},
		{"interactive-3", "berth-interactive", "interactive"},
		{"node-critical", "system-node-critical", "system"},
		{"cluster-critical", "system-cluster-critical", "system"},
		{"standard-1", "berth-standard", ""},
		{"batch-1", "berth-batch", ""},
		{"plain-1", "", ""},
		{"plain-2", "", "pods"},
	} {
		err := create(tc.name, tc.class)
		check(t, tc.name, err, tc.refusedBy == "")
		if err != nil && !strings.Contains(err.Error(), "exceeded quota: "+tc.refusedBy+",") {
			t.Errorf("%s: not refused by the quota %s: %v", tc.name, tc.refusedBy, err)
		}
	}
}

// TestLimitsOfANamespace puts the policy that is off by default into force, and takes it away again.
func TestLimitsOfANamespace(t *testing.T) {
	c := needCluster(t)
	text, err := os.ReadFile("components/limits/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c.with(t, text)
	c.tenant(t, "limited", map[string]string{
		"berth.dev/max-gpu-memory": "40Gi", "berth.dev/max-min-runtime": "10m", "berth.dev/priority-classes": "berth-standard, berth-batch",
	})
	c.tenant(t, "unlimited", nil)
	c.tenant(t, "mistaken", map[string]string{"berth.dev/max-gpu-memory": "lots"})
	c.tenant(t, "mistaken-time", map[string]string{"berth.dev/max-min-runtime": "10"})
	try := func(ctx context.Context, namespace, class, scheduler string, annotations map[string]string) error {
		pod := requestingPod("limited")
		pod.Annotations = map[string]string{}
		for k, v := range annotations {
			pod.Annotations["berth.dev/"+k] = v
		}
		pod.Spec.PriorityClassName, pod.Spec.SchedulerName = class, scheduler
		_, err := c.as(adminUser, nil).CoreV1().Pods(namespace).Create(ctx, pod, dryRun)
		return err
	}
	type asks = map[string]string
	eventually(t, "the policy is in force", func(ctx context.Context) (bool, error) {
		return denied(try(ctx, "limited", "", "berth", asks{"gpu-memory": "41Gi"})), nil
	})
	for _, tc := range []struct {
		name, namespace, class string
		asks                   asks
		refused                string
	}{
		{"as much as is allowed", "limited", "", asks{"gpu-memory": "40Gi"}, ""},
		{"more", "limited", "", asks{"gpu-memory": "40.5Gi"}, "40.5Gi is more than the 40Gi"},
		{"more with some number of GPUs", "limited", "", asks{"gpu-memory": "1=30Gi,2=50Gi"}, "50Gi is more than the 40Gi"},
		{"what is no amount", "limited", "", asks{"gpu-memory": "lots"}, "is not an amount of memory"},
		{"a model", "limited", "", asks{"model": "hf://org/repo"}, "write what this one needs"},
		{"a model and its memory", "limited", "", asks{"model": "hf://org/repo", "gpu-memory": "30Gi"}, ""},
		{"a min-runtime", "limited", "", asks{"gpu-memory": "1Gi", "min-runtime": "10m"}, ""},
		{"a longer min-runtime", "limited", "", asks{"gpu-memory": "1Gi", "min-runtime": "0.5h"}, "0.5h is more than the 10m"},
		{"what is no duration", "limited", "", asks{"gpu-memory": "1Gi", "min-runtime": "long"}, "is not a duration"},
		{"a class", "limited", "berth-batch", asks{"gpu-memory": "1Gi"}, ""},
		{"a class that is not allowed", "limited", "berth-interactive", asks{"gpu-memory": "1Gi"}, "write one of berth-standard, berth-batch"},
		{"a class of Kubernetes'", "limited", "system-node-critical", asks{"gpu-memory": "1Gi"}, "does not allow system-node-critical"},
		{"a class that is not allowed, for a pod without a request", "limited", "berth-interactive", nil, "does not allow berth-interactive"},
		{"a namespace without limits", "unlimited", "berth-interactive", asks{"gpu-memory": "900Gi", "min-runtime": "5h"}, ""},
		{"a limit that is no amount", "mistaken", "", asks{"gpu-memory": "1Gi"}, "berth.dev/max-gpu-memory of the namespace cannot be read"},
		{"a limit that is no duration", "mistaken-time", "", asks{"gpu-memory": "1Gi"}, "berth.dev/max-min-runtime of the namespace cannot be read"},
	} {
		err := try(t.Context(), tc.namespace, tc.class, "berth", tc.asks)
		check(t, tc.name, err, tc.refused == "")
		if err != nil && !strings.Contains(err.Error(), tc.refused) {
			t.Errorf("%s: not a helpful refusal: %v", tc.name, err)
		}
	}
	check(t, "a pod of another scheduler", try(t.Context(), "limited", "berth-interactive", "default-scheduler", nil), true)
}
