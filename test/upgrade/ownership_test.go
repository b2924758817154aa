// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent/kube"
)

// fieldManager is how the apiserver applies objects of a GPUNode's schema.
func fieldManager(t *testing.T, crd *apiextensionsv1.CustomResourceDefinition) *managedfields.FieldManager {
	t.Helper()
	openAPI, err := builder.BuildOpenAPIV3(crd, "v1alpha1", builder.Options{})
	if err != nil {
		t.Fatal(err)
	}
	types, err := managedfields.NewTypeConverter(openAPI.Components.Schemas, false)
	if err != nil {
		t.Fatal(err)
	}
	return managedfieldstest.NewFakeFieldManager(types, berthv1alpha1.GroupVersion.WithKind("GPUNode"))
}

// created is a GPUNode without a report.
func created() *unstructured.Unstructured {
	gn := &unstructured.Unstructured{}
	gn.SetGroupVersionKind(berthv1alpha1.GroupVersion.WithKind("GPUNode"))
	gn.SetName("node")
	return gn
}

// report is what an agent applies: two devices, of which a pod holds the first, unless it is edited.
func report(t *testing.T, edit func(*berthv1alpha1.GPUNodeStatus)) runtime.Object {
	t.Helper()
	gn := &berthv1alpha1.GPUNode{Status: berthv1alpha1.GPUNodeStatus{Devices: []berthv1alpha1.GPUDevice{
		{UUID: "GPU-0", Processes: []berthv1alpha1.GPUProcess{{PodUID: "pod"}}}, {UUID: "GPU-1"},
	}}}
	edit(&gn.Status)
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(gn)
	if err != nil {
		t.Fatal(err)
	}
	object := created()
	object.Object["status"] = content["status"]
	return object
}

// stored are the devices of a GPUNode, and who holds them.
func stored(t *testing.T, object runtime.Object) map[string]string {
	t.Helper()
	var gn berthv1alpha1.GPUNode
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.(*unstructured.Unstructured).Object, &gn); err != nil {
		t.Fatal(err)
	}
	devices := map[string]string{}
	for _, d := range gn.Status.Devices {
		devices[d.UUID] = ""
		for _, p := range d.Processes {
			devices[d.UUID] += string(p.PodUID)
		}
	}
	return devices
}

// TestReportsAcrossDefinitions is why a downgrade keeps the newer CustomResourceDefinition, and why GPUNodes are made anew
// where the older one came back: docs/install.md.
func TestReportsAcrossDefinitions(t *testing.T) {
	crdBefore, crdNow := definitions(t, "gpunodes")
	earlier, now := fieldManager(t, crdBefore), fieldManager(t, crdNow)
	held := func(*berthv1alpha1.GPUNodeStatus) {}
	// Since the first report the pod has ended, and a device is gone.
	ended := func(s *berthv1alpha1.GPUNodeStatus) { s.Devices = []berthv1alpha1.GPUDevice{{UUID: "GPU-0"}} }

	for _, tc := range []struct {
		name       string
		from, then *managedfields.FieldManager
		want       map[string]string
	}{
		{"the newer definition takes the place of the earlier one", earlier, now, map[string]string{"GPU-0": ""}},
		{"the newer definition stays", now, now, map[string]string{"GPU-0": ""}},
		{"under the earlier definition again, what has ended since stays", now, earlier, map[string]string{"GPU-0": "pod", "GPU-1": ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			live, err := tc.from.Apply(created(), report(t, held), kube.FieldManager, true)
			if err == nil {
				live, err = tc.then.Apply(live, report(t, ended), kube.FieldManager, true)
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, stored(t, live)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("the earlier definition refuses the reports of newer agents", func(t *testing.T) {
		newer := report(t, func(s *berthv1alpha1.GPUNodeStatus) { s.HandOff = &berthv1alpha1.HandOff{} })
		_, err := earlier.Apply(created(), newer, kube.FieldManager, true)
		if err == nil || !strings.Contains(err.Error(), ".status.handOff: field not declared in schema") {
			t.Errorf("%v, want an error that names the field", err)
		}
	})
}
