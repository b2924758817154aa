// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/test/integration/harness"
)

func tokenRequest() *authenticationv1.TokenRequest { return &authenticationv1.TokenRequest{} }

// berthObject is an object of Berth's with nothing in it but its metadata.
func berthObject(kind string, metadata map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": berthv1alpha1.GroupVersion.String(), "kind": kind, "metadata": metadata,
	}}
}

func (r *room) writeProfile(ctx context.Context, p party) error {
	profile := berthObject("ModelProfile", map[string]any{"name": "forged"})
	profile.Object["spec"] = map[string]any{"source": "hf://org/forged"}
	_, err := p.object("modelprofiles").Create(ctx, profile, dryRun)
	return err
}

// writesForOthers tries everything with a token as an agent has it, which TestAgentsWriteTheirOwnNodesObjects does by
// impersonation, and with a token of the same account that is bound to no node.
func (r *room) writesForOthers(t *testing.T) {
	unbound := newParty(r.Account(t, berthv1alpha1.Namespace, "berth-agent", nil))
	const noDevices = `{"status":{"devices":[]}}`
	patchReport := func(p party, node string, subresources ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			options := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
			_, err := p.reports().Patch(ctx, node, types.MergePatchType, []byte(noDevices), options, subresources...)
			return err
		}
	}
	applyReport := func(node string, subresources ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			object := berthObject("GPUNode", map[string]any{"name": node})
			_, err := r.agent.reports().Apply(ctx, node, object, metav1.ApplyOptions{FieldManager: "berth-agent", Force: true}, subresources...)
			return err
		}
	}
	create := func(metadata map[string]any) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := r.agent.reports().Create(ctx, berthObject("GPUNode", metadata), dryRun)
			return err
		}
	}
	if err := patchReport(r.agent, attacked, "status")(t.Context()); err != nil {
		t.Fatalf("an agent cannot write its own report: %v", err)
	}
	patch := []byte(`{"metadata":{"labels":{"a":"b"}}}`)
	lease := func(namespace, name string) func(context.Context) error {
		return func(ctx context.Context) error {
			made := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
			_, err := r.agent.CoordinationV1().Leases(namespace).Create(ctx, made, dryRun)
			return err
		}
	}
	patchLease := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := r.agent.CoordinationV1().Leases(berthv1alpha1.Namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
			return err
		}
	}
	for what, try := range map[string]func(context.Context) error{
		"patches another's report":                     patchReport(r.agent, honest),
		"patches another's status":                     patchReport(r.agent, honest, "status"),
		"applies another's report":                     applyReport(honest),
		"applies another's status":                     applyReport(honest, "status"),
		"writes its own with a token of no node":       patchReport(unbound, attacked, "status"),
		"makes a report for a node that is not there":  create(map[string]any{"name": "gpu-9"}),
		"makes a report of a name that is yet to come": create(map[string]any{"generateName": attacked}),
		"deletes another's report": func(ctx context.Context) error {
			return r.agent.reports().Delete(ctx, honest, metav1.DeleteOptions{})
		},
		"deletes all reports": func(ctx context.Context) error {
			return r.agent.reports().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		},
		"renews another's lease":             lease(berthv1alpha1.Namespace, honest),
		"takes the scheduler's leadership":   patchLease("berth-scheduler"),
		"takes the controller's leadership":  patchLease("berth-controller"),
		"makes the scheduler's lease itself": lease(berthv1alpha1.Namespace, "berth-scheduler"),
		"writes a lease elsewhere":           lease("kube-system", attacked),
		"reads Secrets": func(ctx context.Context) error {
			_, err := r.agent.CoreV1().Secrets(berthv1alpha1.Namespace).List(ctx, metav1.ListOptions{})
			return err
		},
		"changes its Node": func(ctx context.Context) error {
			_, err := r.agent.CoreV1().Nodes().Patch(ctx, attacked, types.MergePatchType, patch, metav1.PatchOptions{})
			return err
		},
		"asks for the scheduler's token": func(ctx context.Context) error {
			_, err := r.agent.CoreV1().ServiceAccounts(berthv1alpha1.Namespace).CreateToken(ctx, "berth-scheduler", tokenRequest(), metav1.CreateOptions{})
			return err
		},
		"makes a pod": func(ctx context.Context) error {
			_, err := r.agent.CoreV1().Pods(tenant).Create(ctx, r.pod("x", ""), dryRun)
			return err
		},
		"deletes pods": func(ctx context.Context) error {
			return r.agent.CoreV1().Pods(tenant).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		},
		"writes a profile": func(ctx context.Context) error { return r.writeProfile(ctx, r.agent) },
	} {
		wantRefused(t, "an agent "+what, try(t.Context()), "")
	}
}

// devicesOf is a status with one device, of which some fields are said.
func devicesOf(fields string) string {
	return `{"status":{"devices":[{"uuid":"GPU-gpu-0-a","health":"Healthy",` + fields + `}]}}`
}

// many is a status with devices that are alike.
func many(n int) string {
	devices := make([]string, n)
	for i := range devices {
		devices[i] = fmt.Sprintf(`{"uuid":"GPU-%d","health":"Healthy","memory":{"total":"80Gi"}}`, i)
	}
	return `{"status":{"devices":[` + strings.Join(devices, ",") + `]}}`
}

// sayOfItself writes the report of the attacked node as its agent.
func (r *room) sayOfItself(ctx context.Context, status string) error {
	_, err := r.agent.reports().Patch(ctx, attacked, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	return err
}

// writesNonsense: whatever a node says of itself, pods are placed on others.
func (r *room) writesNonsense(t *testing.T) {
	t.Cleanup(func() {
		if err := r.TryReport(context.WithoutCancel(t.Context()), reportOf(attacked)); err != nil {
			t.Error(err)
		}
	})
	total := func(text string) string { return devicesOf(`"memory":{"total":` + text + `}`) }
	for _, tc := range []struct {
		name, status string
		refused      bool
	}{
		{"less than no memory", total(`"-80Gi"`), false},
		{"more memory than there is", total(`"1e30"`), false},
		{"the largest number", total(`9223372036854775807`), false},
		{"a larger number", total(`92233720368547758070`), true},
		{"an exponent of ten digits", total(`"1e2000000000"`), true},
		{"no number", total(`"NaN"`), true},
		{"half a megabyte of digits", total(`"` + strings.Repeat("9", 500_000) + `"`), true},
		{"an index of more than 32 bits", devicesOf(`"index":4294967296`), true},
		{"more used than there is", devicesOf(`"memory":{"total":"80Gi","used":"900Gi"}`), false},
		{"a process that holds less than nothing", devicesOf(`"memory":{"total":"80Gi"},"processes":[{"podUID":"x","memory":"-1Gi"}]`), false},
		{"no devices", `{"status":{"devices":[]}}`, false},
		{"64 devices", many(64), false},
		{"10,000 devices", many(10_000), true},
	} {
		err := r.sayOfItself(t.Context(), tc.status)
		switch {
		case tc.refused:
			wantRefused(t, tc.name, err, "")
		case err != nil:
			t.Errorf("%s: %v", tc.name, err)
		}
		r.goesOn(t, tc.name)
	}
}

// writesWithoutEnd: one node's reports, written as fast as the apiserver takes them, keep nobody's pods waiting.
func (r *room) writesWithoutEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var written atomic.Int64
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if r.sayOfItself(ctx, fmt.Sprintf(`{"status":{"driverVersion":"%d"}}`, written.Load())) == nil {
				written.Add(1)
			}
		}
	}()
	defer func() { cancel(); <-done }()
	for i, after := range []string{"many reports", "more reports", "still more reports"} {
		harness.Eventually(t, "the agent writes", func(context.Context) (bool, string) {
			n := written.Load()
			return n > int64(100*(i+1)), fmt.Sprint(n)
		})
		r.goesOn(t, after)
	}
}
