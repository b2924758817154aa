// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package attacks tries, on a lab with everything that is installed, what a tenant, the token of a node's agent and
// somebody without any credentials could do to others. docs/attacks.md lists all that is tried, here and elsewhere.
package attacks

import (
	"context"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const (
	// tenant is the namespace in which mallory may do anything.
	tenant = "tenant"
	// attacked is the node whose agent's token was stolen, and honest another one.
	attacked, honest = "gpu-0", "gpu-1"
)

// dryRun is for what shall be judged and not be made.
var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// room is a lab with two nodes, and those who attack it.
type room struct {
	*harness.Lab
	// mallory is a tenant, agent has the token of the agent of the node attacked, and nobody has none.
	mallory, agent, nobody party
}

// party is somebody with credentials, or without.
type party struct {
	kubernetes.Interface
	config *rest.Config
}

func newParty(config *rest.Config) party {
	return party{kubernetes.NewForConfigOrDie(config), config}
}

// object returns a client of objects of Berth's, of which the party may send what it likes.
func (p party) object(resource string) dynamic.ResourceInterface {
	return dynamic.NewForConfigOrDie(p.config).Resource(berthv1alpha1.GroupVersion.WithResource(resource))
}

func (p party) reports() dynamic.ResourceInterface { return p.object("gpunodes") }

func TestAttacks(t *testing.T) {
	lab := harness.Start(t, "--bare")
	r := &room{Lab: lab, nobody: newParty(lab.Nobody())}
	harness.Create(t, lab, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant}})
	harness.Create(t, lab, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "mallory"}})
	harness.Create(t, lab, &rbacv1.Role{ // more than the role edit has, so that what stops mallory is not a role
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "mallory"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}},
	})
	harness.Create(t, lab, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "mallory"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "mallory"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: tenant, Name: "mallory"}},
	})
	r.mallory = newParty(lab.Account(t, tenant, "mallory", nil))
	for _, name := range []string{attacked, honest} {
		node := bt.MakeNode(name)
		lab.AddNode(t, node, reportOf(name))
		if name == attacked {
			r.agent = newParty(lab.Account(t, berthv1alpha1.Namespace, "berth-agent", node))
		}
	}
	harness.Eventually(t, "the tenant may make pods", func(ctx context.Context) (bool, string) {
		_, err := r.mallory.CoreV1().Pods(tenant).Create(ctx, r.pod("first", ""), dryRun)
		return err == nil, "not yet: " + errorText(err)
	})

	t.Run("a tenant writes an allocation", r.writesAllocations)
	t.Run("a tenant takes GPUs past the scheduler", r.takesGPUs)
	t.Run("a tenant debugs a pod", r.debugs)
	t.Run("a tenant writes templates", r.writesTemplates)
	t.Run("a tenant writes very much", r.writesMuch)
	t.Run("a tenant writes a key twice", r.writesTwice)
	t.Run("what is not the tenant's", r.reachesOut)
	t.Run("an agent writes for another node", r.writesForOthers)
	t.Run("an agent writes nonsense of its own node", r.writesNonsense)
	t.Run("an agent writes without end", r.writesWithoutEnd)
	t.Run("ports of the scheduler", r.asksScheduler)
	t.Run("reports that nobody can read", r.writesUnreadable)
	t.Run("the API of Berth is gone for a while", r.losesAPI)
	t.Run("the CRD is gone for a while", r.losesCRD)
}

// reportOf is the report of a node of the room.
func reportOf(name string) *berthv1alpha1.GPUNode {
	return bt.MakeGPUNode(name).GPU("GPU-"+name+"-a", "80Gi").GPU("GPU-"+name+"-b", "80Gi").Obj()
}

// pod is a tenant's pod that asks for 1Gi on a node; any, if it is "".
func (r *room) pod(name, node string, changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := bt.MakePod(name).Memory("1Gi").NoReference().Obj()
	pod.Namespace, pod.UID, pod.ResourceVersion = tenant, "", ""
	if node != "" {
		pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

// placed makes a tenant's pod on a node and waits until it is bound. It is gone after the test.
func (r *room) placed(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	harness.Create(t, r.Lab, pod)
	r.removeAfter(t, pod)
	bound, _ := r.WaitBound(t, pod)
	return bound
}

func (r *room) removeAfter(t *testing.T, pod *corev1.Pod) {
	t.Cleanup(func() {
		now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
		if err := r.Clientset.CoreV1().Pods(pod.Namespace).Delete(context.WithoutCancel(t.Context()), pod.Name, now); err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("delete pod %s: %v", pod.Name, err)
		}
	})
}

// goesOn checks that pods are placed on the honest node, whatever was just done.
func (r *room) goesOn(t *testing.T, after string) {
	t.Helper()
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' {
			return c
		}
		return '-'
	}, strings.ToLower(after))
	pod := r.placed(t, r.pod("goes-on-"+name+"-x", honest))
	if pod.Annotations[berthv1alpha1.AnnotationAllocation] == "" {
		t.Errorf("after %s: a pod is bound without an allocation", after)
	}
}

// wantRefused checks that a role or a policy refused, and that the message has a text.
func wantRefused(t *testing.T, what string, err error, says string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: allowed", what)
	case !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) && !apierrors.IsUnauthorized(err):
		t.Errorf("%s: failed for another reason: %v", what, err)
	case !strings.Contains(err.Error(), says):
		t.Errorf("%s: refused with %q, which does not say %q", what, err, says)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
