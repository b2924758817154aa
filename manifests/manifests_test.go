// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/berth-dev/berth/manifests"
)

// TestObjectsAreThoseOfKustomize compares what the lab applies with what kubectl apply -k would. They differ only in
// the ConfigMaps, which kustomize generates, and in the Deployments that refer to them.
func TestObjectsAreThoseOfKustomize(t *testing.T) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), ".")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{}
	for _, r := range built.Resources() {
		object, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		if r.GetKind() != "ConfigMap" {
			want[r.GetKind()+" "+r.GetName()] = comparable(r.GetKind(), object)
		}
	}
	objects, err := manifests.Objects(".")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, o := range objects {
		// Through YAML, so that numbers are of the same types.
		text, err := sigsyaml.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		object := map[string]any{}
		if err := kyaml.Unmarshal(text, &object); err != nil {
			t.Fatal(err)
		}
		got[o.GetKind()+" "+o.GetName()] = comparable(o.GetKind(), object)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects (-kustomize +embedded):\n%s", diff)
	}
}

func comparable(kind string, object map[string]any) map[string]any {
	if kind == "Deployment" {
		return map[string]any{"metadata": object["metadata"]}
	}
	return object
}

// TestManifestsHaveNoUnknownFields decodes every object strictly, also the examples.
func TestManifestsHaveNoUnknownFields(t *testing.T) {
	objects, err := manifests.Objects(".", "examples")
	if err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, o := range objects {
		if !scheme.Scheme.Recognizes(o.GroupVersionKind()) {
			if o.GetKind() != "CustomResourceDefinition" {
				t.Errorf("%s %s is of an unknown kind", o.GetKind(), o.GetName())
			}
			continue
		}
		text, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := decoder.Decode(text, nil, nil); err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

// TestWorkloadsAreUnprivileged checks the containers against the restricted Pod Security level; the agent, which
// docs/agent.md accounts for, may be root, see the node's processes, and read a few folders of it, and no more.
func TestWorkloadsAreUnprivileged(t *testing.T) {
	objects, err := manifests.Objects(".")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, o := range objects {
		if o.GetKind() != "Deployment" && o.GetKind() != "DaemonSet" {
			continue
		}
		checked++
		isAgent := o.GetName() == "berth-agent"
		spec := podSpec(t, o)
		if spec.HostNetwork || spec.HostIPC || spec.HostPID != isAgent {
			t.Errorf("%s: hostNetwork %v, hostIPC %v, hostPID %v", o.GetName(), spec.HostNetwork, spec.HostIPC, spec.HostPID)
		}
		if ptr.Deref(spec.SecurityContext.RunAsNonRoot, false) == isAgent {
			t.Errorf("%s: runAsNonRoot %v", o.GetName(), spec.SecurityContext.RunAsNonRoot)
		}
		if p := spec.SecurityContext.SeccompProfile; p == nil || p.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: no seccomp profile", o.GetName())
		}
		for _, c := range spec.Containers {
			sc := c.SecurityContext
			if sc == nil || sc.Privileged != nil || ptr.Deref(sc.AllowPrivilegeEscalation, true) ||
				!ptr.Deref(sc.ReadOnlyRootFilesystem, false) || sc.Capabilities == nil ||
				!slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(sc.Capabilities.Add) > 0 {
				t.Errorf("%s: container %s has the security context %+v", o.GetName(), c.Name, sc)
			}
		}
		for _, v := range spec.Volumes {
			if v.HostPath == nil {
				continue
			}
			if !isAgent || !slices.Contains([]string{"/var/lib/kubelet/pod-resources", "/var/log/pods", "/etc", "/usr/local"}, v.HostPath.Path) {
				t.Errorf("%s: mounts %s of the node", o.GetName(), v.HostPath.Path)
			}
			for _, m := range spec.Containers[0].VolumeMounts {
				if m.Name == v.Name && !m.ReadOnly {
					t.Errorf("%s: may write to %s of the node", o.GetName(), v.HostPath.Path)
				}
			}
		}
	}
	if checked != 3 {
		t.Errorf("%d workloads were checked, want 3", checked)
	}
}

func podSpec(t *testing.T, o *unstructured.Unstructured) *corev1.PodSpec {
	t.Helper()
	template, ok, err := unstructured.NestedMap(o.Object, "spec", "template")
	if err != nil || !ok {
		t.Fatalf("%s has no pod template: %v", o.GetName(), err)
	}
	var pod corev1.PodTemplateSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(template, &pod); err != nil {
		t.Fatal(err)
	}
	return &pod.Spec
}

func TestPriorityClassesAreNobodysDefault(t *testing.T) {
	objects, err := manifests.Objects("priorityclasses.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.GroupVersionKind() != schema.GroupVersionKind(schedulingv1.SchemeGroupVersion.WithKind("PriorityClass")) {
			t.Errorf("%s is a %s", o.GetName(), o.GetKind())
		}
		if isDefault, _, _ := unstructured.NestedBool(o.Object, "globalDefault"); isDefault {
			t.Errorf("%s is the default of the cluster", o.GetName())
		}
	}
}
