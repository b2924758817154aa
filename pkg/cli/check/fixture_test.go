// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/plugin/config"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// healthy is a cluster in which nothing is wrong: as kustomize installs it, with two nodes of two GPUs.
func healthy() *Facts {
	f := &Facts{
		Self: "v1.2.3", KubeSelf: version.MajorMinor(1, 37), Server: version.MajorMinor(1, 37), Mutating: "v1",
		Unread: map[string]string{}, Installed: map[string]Found{}, Settings: gpumap.DefaultSettings(), Ready: map[string]string{},
		Config: "profiles: []", ConfigName: "berth-scheduler-config-1",
		Classes:    []nodev1.RuntimeClass{{ObjectMeta: metav1.ObjectMeta{Name: "nvidia"}, Handler: "nvidia"}},
		TermHolder: "scheduler-1",
	}
	f.Time = now
	f.Args, _ = config.Decode(nil) // the defaults
	for _, o := range Needed("v1") {
		if slices.Contains(optional, o.GetName()) || isOfResource(o.GetName()) {
			continue
		}
		o = o.DeepCopy()
		if o.GetKind() == "CustomResourceDefinition" {
			yes := func(kind string) any { return map[string]any{"type": kind, "status": "True", "message": ""} }
			o.Object["status"] = map[string]any{"conditions": []any{yes("NamesAccepted"), yes("Established")}, "storedVersions": []any{"v1alpha1"}}
		}
		f.Installed[KeyOf(o)] = Found{Object: o}
	}
	for _, node := range []string{"gpu-a", "gpu-b"} {
		n := bt.MakeNode(node)
		n.Labels["berth.dev/gpus"] = "true"
		f.Nodes = append(f.Nodes, *n)
		gn := bt.MakeGPUsOf(node, 2, "80Gi").Obj()
		gn.Status.HandOff = &berthv1alpha1.HandOff{Runtimes: []berthv1alpha1.RuntimeHandOff{
			{Handler: "nvidia", Accepts: []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI}},
		}}
		f.GPUNodes = append(f.GPUNodes, *gn)
		f.Leases = append(f.Leases, lease(node, node, 5*time.Second))
		f.Pods = append(f.Pods, part(Agent, "agent-"+node, node))
	}
	f.Leases = append(f.Leases, lease(Scheduler, "scheduler-1", 2*time.Second), lease(Controller, "controller-1", 2*time.Second))
	f.Pods = append(f.Pods, part(Scheduler, "scheduler-1", "gpu-a"), part(Scheduler, "scheduler-2", "gpu-b"), part(Controller, "controller-1", "gpu-a"))
	for name, replicas := range map[string]int32{Scheduler: 2, Controller: 1} {
		f.Deployments = append(f.Deployments, appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{LabelName: name}},
			Spec: appsv1.DeploymentSpec{Replicas: &replicas, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Volumes: []corev1.Volume{
				configVolume(name + "-config-1"),
			}}}},
			Status: appsv1.DeploymentStatus{ReadyReplicas: replicas, UpdatedReplicas: replicas},
		})
		f.ConfigMaps = append(f.ConfigMaps, corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name + "-config-1"}})
	}
	shipped := newJudge(f).agentPod()
	f.DaemonSets = []appsv1.DaemonSet{{
		ObjectMeta: metav1.ObjectMeta{Name: Agent, Labels: map[string]string{LabelName: Agent}},
		Spec:       appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: shipped.Spec}},
		Status:     appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, NumberReady: 2, UpdatedNumberScheduled: 2},
	}}
	return f
}

func configVolume(name string) corev1.Volume {
	return corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: name},
	}}}
}

func lease(name, holder string, age time.Duration) coordinationv1.Lease {
	at := metav1.NewMicroTime(now.Add(-age))
	return coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: coordinationv1.LeaseSpec{
		HolderIdentity: &holder, RenewTime: &at, LeaseDurationSeconds: ptr.To[int32](15), AcquireTime: ptr.To(metav1.NewMicroTime(now.Add(-time.Hour))),
	}}
}

// part is a pod of one of Berth's parts, which is ready.
func part(name, pod, node string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: berthv1alpha1.Namespace, Name: pod, Labels: map[string]string{LabelName: name}},
		Spec: corev1.PodSpec{
			NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "registry.test:5000/" + name + ":v1.2.3"}},
			Volumes: []corev1.Volume{configVolume(name + "-config-1")},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

// waiting makes a pod one that is not ready because a container waits.
func waiting(pod *corev1.Pod, reason, message string) {
	pod.Status.Conditions = nil
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
}

func (f *Facts) pod(name string) *corev1.Pod {
	return &f.Pods[slices.IndexFunc(f.Pods, func(p corev1.Pod) bool { return p.Name == name })]
}

func (f *Facts) lease(name string) *coordinationv1.Lease {
	return &f.Leases[slices.IndexFunc(f.Leases, func(l coordinationv1.Lease) bool { return l.Name == name })]
}

func (f *Facts) object(t *testing.T, key string) map[string]any {
	t.Helper()
	if f.Installed[key].Object == nil {
		t.Fatalf("nothing is shipped as %s", key)
	}
	return f.Installed[key].Object.Object
}

func set(t *testing.T, object map[string]any, value any, path ...string) {
	t.Helper()
	if err := unstructured.SetNestedField(object, value, path...); err != nil {
		t.Fatal(err)
	}
}

func (f *Facts) deployment(name string) *appsv1.Deployment {
	return &f.Deployments[slices.IndexFunc(f.Deployments, func(d appsv1.Deployment) bool { return d.Name == name })]
}

// dropField takes status.handOff out of the schema of GPUNodes.
func dropField(t *testing.T, f *Facts) {
	t.Helper()
	object := f.object(t, "CustomResourceDefinition gpunodes.berth.dev")
	versions, _, _ := unstructured.NestedSlice(object, "spec", "versions")
	unstructured.RemoveNestedField(versions[0].(map[string]any), "schema", "openAPIV3Schema", "properties", "status", "properties", "handOff")
	set(t, object, versions, "spec", "versions")
}

// isOfResource says whether a policy goes with the argument gpuMemoryResource.
func isOfResource(name string) bool { return strings.HasPrefix(name, "berth-resource") }
