// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package feed

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/shared"
	"github.com/berth-dev/berth/pkg/plugin/warm"
)

// heavyPod has something of all that pods of inference servers have, on a node unless that is empty.
func heavyPod(node string) *corev1.Pod {
	pod := bt.MakePod("heavy").Memory("30Gi").Node(node).Obj()
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	pod.Annotations[corev1.LastAppliedConfigAnnotation] = "{}"
	server := &pod.Spec.Containers[0]
	server.Image = "vllm/vllm-openai:v0.25.0"
	server.Command, server.Args = []string{"vllm", "serve"}, []string{"--model=/models/qwen"}
	server.Env = append(server.Env, corev1.EnvVar{Name: "HF_HOME", Value: "/models"})
	server.Ports = []corev1.ContainerPort{{ContainerPort: 8000, HostPort: 8000, Protocol: corev1.ProtocolTCP}}
	server.Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi")}}
	server.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired}}
	server.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
	server.VolumeMounts = []corev1.VolumeMount{{Name: "models", MountPath: "/models"}, {Name: "shm", MountPath: "/dev/shm"}}
	pod.Spec.InitContainers = []corev1.Container{{
		Name: "proxy", Args: []string{"run"}, RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways),
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
	}}
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}}
	volume := func(name string, source corev1.VolumeSource) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: source}
	}
	pod.Spec.Volumes = []corev1.Volume{
		volume("shm", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}),
		volume("models", corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "models"}}),
		volume("token", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}),
		volume("weights", corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "registry.example.com/qwen"}}),
		volume("disk", corev1.VolumeSource{AWSElasticBlockStore: &corev1.AWSElasticBlockStoreVolumeSource{VolumeID: "vol-1"}}),
	}
	pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}, TopologyKey: corev1.LabelHostname,
	}}}}
	running := func(name string) corev1.ContainerStatus {
		return corev1.ContainerStatus{
			Name: name, Image: "image", ImageID: "id", ContainerID: "containerd://1", Ready: true, RestartCount: 1,
			State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(bt.Epoch)}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(bt.Epoch)}},
			AllocatedResources:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5")},
		}
	}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{running("proxy")}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{running(server.Name)}
	pod.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{running("debug")}
	return pod
}

func trimmed(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	got, err := trimPod(pod.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	return got.(*corev1.Pod)
}

// TestPodsThatWaitAreKeptWhole: what their models need is read from command, arguments and environment.
func TestPodsThatWaitAreKeptWhole(t *testing.T) {
	pod := heavyPod("")
	got := trimmed(t, pod)
	pod.ManagedFields = nil
	if diff := cmp.Diff(pod, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPodsOnNodesAreKeptAsTheyCount for the framework, and for Berth.
func TestPodsOnNodesAreKeptAsTheyCount(t *testing.T) {
	pod := heavyPod("n")
	got := trimmed(t, pod)
	counted := func(p *corev1.Pod) []any {
		n := framework.NewNodeInfo(p)
		return []any{n.Requested, n.NonZeroRequested, n.UsedPorts, n.PVCRefCounts, n.PodsWithRequiredAntiAffinity[0].GetRequiredAntiAffinityTerms()}
	}
	if diff := cmp.Diff(counted(pod), counted(got), cmp.AllowUnexported(fwk.AffinityTerm{}), cmp.Comparer(func(a, b labels.Selector) bool { return a.String() == b.String() })); diff != "" {
		t.Errorf("what the framework counts (-of the whole pod +of what is kept):\n%s", diff)
	}
	unlike := cmp.Diff(pod.Spec, got.Spec, cmp.FilterPath(func(p cmp.Path) bool {
		switch p.Last().String() {
		case ".Containers", ".InitContainers", ".EphemeralContainers", ".Volumes":
			return true
		}
		return false
	}, cmp.Ignore()))
	if unlike != "" {
		t.Errorf("beside containers and volumes (-want +got):\n%s", unlike)
	}
	names := []string{}
	for _, v := range got.Spec.Volumes {
		names = append(names, v.Name)
	}
	if diff := cmp.Diff([]string{"models", "weights", "disk"}, names); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	c := got.Spec.Containers[0]
	if c.Env != nil || c.Args != nil || c.Command != nil || c.ReadinessProbe != nil || c.VolumeMounts != nil || got.Spec.EphemeralContainers != nil ||
		got.ManagedFields != nil || got.Status.ContainerStatuses[0].ImageID != "" {
		t.Errorf("what only the kubelet needs is kept: %+v", got)
	}
	until, loading := gpustate.LoadingUntil(pod, 15*time.Minute)
	if u, l := gpustate.LoadingUntil(got, 15*time.Minute); u != until || l != loading {
		t.Errorf("it loads until %v (%v), want %v (%v)", u, l, until, loading)
	}
}

// handleOf is a handle that has informers and nothing else.
type handleOf struct {
	fwk.Handle
	factory informers.SharedInformerFactory
}

func (h handleOf) SharedInformerFactory() informers.SharedInformerFactory { return h.factory }

// TestSchedulerKeepsTrimmedObjects: it is the framework's own informers that do, and they take the setting. What a pod loads is
// known nevertheless, as of one that waits.
func TestSchedulerKeepsTrimmedObjects(t *testing.T) {
	pod := bt.MakePod("heavy").Memory("30Gi").Bound("n", bt.Epoch, "GPU-1=30Gi").Ready(bt.Epoch).Obj()
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "qwen", UID: "1", Controller: ptr.To(true)}}
	pod.Spec.Containers[0].Args = []string{"--model=/models/qwen"}
	loads := warm.LoadsOf(pod, "")
	node := bt.MakeNode("n")
	node.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet"}}
	factory := informers.NewSharedInformerFactory(fake.NewClientset(pod, node), 0)
	f := &Feed{
		World: &shared.World{Handle: handleOf{factory: factory}},
		Warm:  warm.NewBook(testclock.NewFakeClock(bt.Epoch), func(string) (types.UID, bool) { return node.UID, true }),
	}
	if err := f.trimFramework(); err != nil {
		t.Fatal(err)
	}
	core := factory.Core().V1()
	pods, nodes := core.Pods().Informer(), core.Nodes().Informer()
	factory.StartWithContext(t.Context())
	bt.Eventually(t, "the informers know all", func() bool { return pods.HasSynced() && nodes.HasSynced() })
	if got := pods.GetStore().List()[0].(*corev1.Pod); got.Spec.Containers[0].Args != nil {
		t.Errorf("the pod is kept whole: %+v", got)
	}
	f.Warm.Seen(pods.GetStore().List()[0].(*corev1.Pod))
	if _, ok := f.Warm.Of(loads.Key).On(node); !ok {
		t.Error("nobody knows that what the pod loads is on its node")
	}
	if got := nodes.GetStore().List()[0].(*corev1.Node); got.ManagedFields != nil {
		t.Errorf("the node is kept whole: %+v", got)
	}
	if err := f.trimFramework(); err == nil {
		t.Error("an informer that runs takes no setting, and nobody is told")
	}
}
