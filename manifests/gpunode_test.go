// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/agent/kube"
)

var gpuNodes = berthv1alpha1.GroupVersion.WithResource("gpunodes")

// applyStatus writes a status as a field manager does who takes what others own.
func applyStatus(ctx context.Context, client dynamic.Interface, manager, node string, status map[string]any, dryRun ...string) error {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": berthv1alpha1.GroupVersion.String(), "kind": "GPUNode", "metadata": map[string]any{"name": node}, "status": status,
	}}
	_, err := client.Resource(gpuNodes).Apply(ctx, node, object, metav1.ApplyOptions{FieldManager: manager, Force: true, DryRun: dryRun}, "status")
	return err
}

// agentOf returns the client of a node's agent, which has written its report.
func agentOf(t *testing.T, c *testCluster, node string) *kube.Client {
	t.Helper()
	agent, err := kube.NewClient(c.controlPlane.Config(), node)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Apply(t.Context(), ownStatus()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dynamic.NewForConfigOrDie(c.controlPlane.Config()).Resource(gpuNodes).Delete(context.Background(), node, metav1.DeleteOptions{})
	})
	return agent
}

func ownStatus() *berthv1alpha1.GPUNodeStatus {
	status := bt.MakeGPUNodeOf("", 1, "80Gi").Obj().Status
	status.ObservedTime = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	return &status
}

// wantOwnStatus checks that nothing is left of what others wrote, after the agent wrote again.
func wantOwnStatus(t *testing.T, agent *kube.Client) {
	t.Helper()
	if _, err := agent.Apply(t.Context(), ownStatus()); err != nil {
		t.Fatalf("the agent cannot write: %v", err)
	}
	got, err := agent.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := ownStatus()
	for i := range want.Devices {
		want.Devices[i].Health = berthv1alpha1.DeviceHealthy
	}
	want.ObservedTime, got.Status.ObservedTime = metav1.Time{}, metav1.Time{}
	if diff := cmp.Diff(*want, got.Status); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The attack is that another field manager adds a GPU of 900Gi, which stays though the agent goes on reporting.
func TestForgedDeviceDoesNotOutliveTheForger(t *testing.T) {
	c := needCluster(t)
	agent := agentOf(t, c, "forged")
	version := func(notOlderThan string) string {
		t.Helper()
		v, err := agent.Version(t.Context(), notOlderThan)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	before, err := agent.Apply(t.Context(), ownStatus())
	if err != nil {
		t.Fatal(err)
	}
	if got := version(before); got != before {
		t.Errorf("the version is %s, and the agent wrote %s", got, before)
	}
	fake := map[string]any{"devices": []any{map[string]any{"uuid": "GPU-fake", "memory": map[string]any{"total": "900Gi"}}}}
	if err := applyStatus(t.Context(), dynamic.NewForConfigOrDie(c.controlPlane.Config()), "mallory", "forged", fake); err != nil {
		t.Fatal(err)
	}
	err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		return version(before) != before, nil // the cache may be behind the forger's write
	})
	if err != nil {
		t.Fatal("the agent does not see that its report is another")
	}
	wantOwnStatus(t, agent)
}

func TestCRDRefusesWhatNobodyCouldRead(t *testing.T) {
	c := needCluster(t)
	agentOf(t, c, "refused")
	client := dynamic.NewForConfigOrDie(c.controlPlane.Config())
	memory := func(total any) map[string]any {
		return map[string]any{"devices": []any{map[string]any{"uuid": "GPU-a", "memory": map[string]any{"total": total}}}}
	}
	for name, tc := range map[string]struct {
		status   map[string]any
		admitted bool
	}{
		"a time":                         {map[string]any{"observedTime": "2026-01-01T00:00:00Z"}, true},
		"a time in lower case":           {map[string]any{"observedTime": "2026-01-01t00:00:00z"}, false},
		"a time zone that is none":       {map[string]any{"observedTime": "2026-01-01T00:00:00+99:99"}, false},
		"a day that is none":             {map[string]any{"observedTime": "2026-02-30T00:00:00Z"}, false},
		"a quantity":                     {memory("80Gi"), true},
		"a quantity as a number":         {memory(int64(85899345920)), true},
		"a quantity that takes hours":    {memory("1e-2000000000"), false},
		"an exponent that is no integer": {memory("1e1.5"), false},
		"an exponent without end":        {memory("1e99999999999999999999"), false},
	} {
		err := applyStatus(t.Context(), client, "berth-agent", "refused", tc.status, metav1.DryRunAll)
		if (err == nil) != tc.admitted {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAgentReplacesAReportOfBeforeThePatterns writes what the CRD admitted before it had patterns.
func TestAgentReplacesAReportOfBeforeThePatterns(t *testing.T) {
	c := needCluster(t)
	agent := agentOf(t, c, "old")
	client := dynamic.NewForConfigOrDie(c.controlPlane.Config())
	crds := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	update := func(change func(spec map[string]any)) {
		t.Helper()
		crd, err := crds.Get(context.Background(), "gpunodes.berth.dev", metav1.GetOptions{})
		if err == nil {
			change(crd.Object)
			_, err = crds.Update(context.Background(), crd, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	old := map[string]any{
		"observedTime": "2026-01-01t00:00:00z",
		"devices":      []any{map[string]any{"uuid": "GPU-old", "memory": map[string]any{"total": "1e-999"}}},
	}
	admits := func(want bool) {
		t.Helper()
		err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
			other := map[string]any{"observedTime": "2027-01-01t00:00:00z"} // what is stored already may stay
			return (applyStatus(ctx, client, "berth-agent", "old", other, metav1.DryRunAll) == nil) == want, nil
		})
		if err != nil {
			t.Fatalf("the CRD did not come into force: it admits it: %t", !want)
		}
	}
	var spec any
	update(func(crd map[string]any) {
		spec = (&unstructured.Unstructured{Object: crd}).DeepCopy().Object["spec"]
		loosen(crd["spec"])
	})
	restore := func() { update(func(crd map[string]any) { crd["spec"] = spec }) }
	defer restore()
	admits(true)
	for _, manager := range []string{"berth-agent", "mallory"} {
		if err := applyStatus(t.Context(), client, manager, "old", old); err != nil {
			t.Fatal(err)
		}
	}
	restore()
	admits(false)
	wantOwnStatus(t, agent)
}

// loosen takes the patterns and bounds out of a schema.
func loosen(v any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			loosen(e)
		}
	case map[string]any:
		for _, key := range []string{"pattern", "maxLength", "allOf"} {
			if _, isProperty := v[key].(map[string]any); !isProperty {
				delete(v, key)
			}
		}
		for _, e := range v {
			loosen(e)
		}
	}
}
