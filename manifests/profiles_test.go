// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/estimator"
)

var modelProfiles = berthv1alpha1.GroupVersion.WithResource("modelprofiles")

// sharedProfile makes a profile, as an admin does, and takes it away after the test.
func sharedProfile(t *testing.T, admin dynamic.Interface, name string) {
	t.Helper()
	profile := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": berthv1alpha1.GroupVersion.String(), "kind": "ModelProfile",
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"source": "hf://org/" + name},
	}}
	if _, err := admin.Resource(modelProfiles).Create(t.Context(), profile, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = admin.Resource(modelProfiles).Delete(context.Background(), name, metav1.DeleteOptions{})
	})
}

// TestWhoPromotesPeaks: a tenant who may do anything in its namespace, a node's agent, the scheduler and the controller
// cannot let what a namespace measured count for others. An admin can.
func TestWhoPromotesPeaks(t *testing.T) {
	c := needCluster(t)
	admin := dynamic.NewForConfigOrDie(c.controlPlane.Config())
	sharedProfile(t, admin, "promoted")

	const tenant = "peaks-tenant"
	if _, err := c.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	everything := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "everything"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "mallory"}},
	}
	if _, err := c.admin.RbacV1().RoleBindings(tenant).Create(t.Context(), everything, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	mallory := c.controlPlane.Config()
	mallory.Impersonate = rest.ImpersonationConfig{UserName: "mallory"}
	users := map[string]*rest.Config{"a tenant": mallory}
	for _, account := range []string{"berth-agent", "berth-scheduler", "berth-controller"} {
		config, err := c.controlPlane.ServiceAccountConfig(t.Context(), berthv1alpha1.Namespace, account, nil)
		if err != nil {
			t.Fatal(err)
		}
		users[account] = config
	}
	spec := `{"spec":{"peaksFrom":["` + tenant + `"]}}`
	status := `{"status":{"observedPeaks":[{"namespace":"default","settings":{},"gpuCount":1,"devices":["9000Gi"],"samples":1,"lastTime":"2026-01-01T00:00:00Z"}]}}`
	for user, config := range users {
		profiles := dynamic.NewForConfigOrDie(config).Resource(modelProfiles)
		_, err := profiles.Patch(t.Context(), "promoted", types.MergePatchType, []byte(spec), metav1.PatchOptions{})
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s promotes the peaks of a namespace: %v", user, err)
		}
		_, err = profiles.Patch(t.Context(), "promoted", types.MergePatchType, []byte(status), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, "status")
		if isController := user == "berth-controller"; isController != (err == nil) || err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("%s writes peaks: %v", user, err)
		}
	}
	for what, tc := range map[string]struct {
		spec     string
		admitted bool
	}{
		"a namespace":             {spec, true},
		"four":                    {`{"spec":{"peaksFrom":["a","b","c","d"]}}`, true},
		"five":                    {`{"spec":{"peaksFrom":["a","b","c","d","e"]}}`, false},
		"one twice":               {`{"spec":{"peaksFrom":["a","a"]}}`, false},
		"one without a name":      {`{"spec":{"peaksFrom":[""]}}`, false},
		"none any more":           {`{"spec":{"peaksFrom":null}}`, true},
		"and a model besides":     {`{"spec":{"source":"hf://org/other","peaksFrom":["a"]}}`, false},
		"what would be a pattern": {`{"spec":{"peaksFrom":["*"]}}`, false},
	} {
		_, err := admin.Resource(modelProfiles).Patch(t.Context(), "promoted", types.MergePatchType, []byte(tc.spec), metav1.PatchOptions{})
		if (err == nil) != tc.admitted || err != nil && !apierrors.IsInvalid(err) {
			t.Errorf("an admin promotes %s: %v", what, err)
		}
	}
}

// TestPeaksAreStoredWhole writes as many peaks as a profile has, and reads them back: nothing is pruned or refused.
func TestPeaksAreStoredWhole(t *testing.T) {
	c := needCluster(t)
	admin := dynamic.NewForConfigOrDie(c.controlPlane.Config()).Resource(modelProfiles)
	sharedProfile(t, dynamic.NewForConfigOrDie(c.controlPlane.Config()), "stored")
	at := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	devices := []resource.Quantity{resource.MustParse("20Gi"), resource.MustParse("10Gi")}
	var want []berthv1alpha1.ObservedPeak
	for i := range 64 {
		p := berthv1alpha1.ObservedPeak{
			Namespace: fmt.Sprintf("team-%d", i), Settings: estimator.Settings{Runtime: estimator.RuntimeVLLM, ContextLength: 8192}, GPUCount: 2,
			Devices: devices, Excess: resource.MustParse("1Gi"), Samples: 7, LastTime: at,
		}
		for run := range 5 {
			p.Runs = append(p.Runs, berthv1alpha1.MeasuredRun{
				PodUID: types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", run)), Created: at, Devices: devices, Excess: resource.MustParse("1Gi"),
			})
		}
		want = append(want, p)
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"observedPeaks": want}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := admin.Patch(t.Context(), "stored", types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	var profile berthv1alpha1.ModelProfile
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(got.Object, &profile); err != nil {
		t.Fatal(err)
	}
	for i := range profile.Status.ObservedPeaks {
		p := &profile.Status.ObservedPeaks[i]
		p.LastTime = metav1.NewTime(p.LastTime.UTC())
		for j := range p.Runs {
			p.Runs[j].Created = metav1.NewTime(p.Runs[j].Created.UTC())
		}
	}
	if diff := cmp.Diff(want, profile.Status.ObservedPeaks); diff != "" {
		t.Errorf("peaks (-written +read):\n%s", diff)
	}
}
