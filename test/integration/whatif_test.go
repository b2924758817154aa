// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/cli/cluster"
	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// envWhatIf is how many pods TestWhatIfSaysWhatTheSchedulerDoes asks about ("200"), of which seed ("200,7"), on how many nodes
// ("200,7,100"; else on a few, which fill up); make what-if sets it.
const envWhatIf = "BERTH_WHAT_IF"

// whatIfPods is how many it asks about otherwise.
const whatIfPods = 12

// guarded is the label of pods in a budget that allows no disruption.
const guarded = "guarded"

// TestWhatIfSaysWhatTheSchedulerDoes asks, before each of many pods is created, what would become of it, and compares that
// with what does: its node, its GPUs and the memory on each, the pods that are evicted for it, or why it waits, word for
// word. The scheduler runs with a parallelism of 1 and looks at all nodes: elsewhere it may choose another node of equal
// score.
func TestWhatIfSaysWhatTheSchedulerDoes(t *testing.T) {
	numbers := []int{whatIfPods, 1, 0}
	if value := os.Getenv(envWhatIf); value != "" {
		for i, text := range strings.SplitN(value, ",", len(numbers)) {
			var err error
			if numbers[i], err = strconv.Atoi(text); err != nil {
				t.Fatalf("%s=%s: %v", envWhatIf, value, err)
			}
		}
	}
	n, seed, nodes := numbers[0], numbers[1], numbers[2]
	w := newWhatIfWorld(t, rand.New(rand.NewPCG(uint64(seed), 0)), nodes)
	for i := range n {
		w.ask(fmt.Sprintf("pod-%03d", i))
	}
	t.Logf("%d of %d as foretold (seed %d): %d placed, %d of them by eviction, %d pending", n, n, seed, w.placed, w.evicting, w.pending)
	if w.placed == 0 || n >= 100 && nodes == 0 && (w.evicting == 0 || w.pending == 0) {
		t.Error("that shows little")
	}
}

type whatIfWorld struct {
	*testing.T
	lab    *harness.Lab
	random *rand.Rand
	client *cluster.Client
	nodes  int

	placed, evicting, pending int
}

func newWhatIfWorld(t *testing.T, random *rand.Rand, nodes int) *whatIfWorld {
	if nodes == 0 {
		nodes = 2 + random.IntN(6)
	}
	text, err := manifests.FS.ReadFile("scheduler/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	one := strings.Replace(string(text), "\nprofiles:", "\nparallelism: 1\npercentageOfNodesToScore: 100\nprofiles:", 1)
	if err := os.WriteFile(config, []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &whatIfWorld{T: t, lab: harness.Start(t, "--bare", "--scheduler-config", config, "--no-controller"), random: random, nodes: nodes}
	if w.client, err = cluster.New(w.lab.Config); err != nil {
		t.Fatal(err)
	}
	for _, value := range []int32{0, 100, 200, 300} {
		harness.Create(t, w.lab, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: className(value)}, Value: value})
	}
	harness.Create(t, w.lab, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: bt.Namespace, Name: guarded},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: ptr.To(intstr.FromInt32(1000)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{guarded: "true"}},
		},
	})
	harness.Create(t, w.lab, &resourcev1.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "nic"}})
	harness.Create(t, w.lab, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: "local"}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer),
	})
	for i := range w.nodes { // in the order of their names, in which the simulator has them too
		w.lab.AddNode(t, bt.MakeNode(nodeName(i)), w.gpus(nodeName(i)))
		if i%2 == 0 {
			harness.Create(t, w.lab, &resourcev1.ResourceSlice{
				ObjectMeta: metav1.ObjectMeta{Name: "nics-of-" + nodeName(i)},
				Spec: resourcev1.ResourceSliceSpec{
					Driver: "nic.example.com", NodeName: ptr.To(nodeName(i)), Pool: resourcev1.ResourcePool{Name: nodeName(i), Generation: 1, ResourceSliceCount: 1},
					Devices: []resourcev1.Device{{Name: "nic0"}, {Name: "nic1"}},
				},
			})
		}
	}
	return w
}

// claims gives a pod a claim of a NIC, of which every second node has two, or a volume that is on one node.
func (w *whatIfWorld) claims(pod *corev1.Pod) {
	meta := metav1.ObjectMeta{Namespace: pod.Namespace, Name: "of-" + pod.Name}
	switch w.random.IntN(6) {
	case 0:
		harness.Create(w.T, w.lab, &resourcev1.ResourceClaim{ObjectMeta: meta, Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{
			Requests: []resourcev1.DeviceRequest{{Name: "nic", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "nic"}}},
		}}})
		pod.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "nic", ResourceClaimName: &meta.Name}}
	case 1:
		w.volume(meta, nodeName(w.random.IntN(w.nodes)))
		pod.Spec.Volumes = []corev1.Volume{{Name: "models", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: meta.Name}}}}
	}
}

// volume makes a claim that is bound to a volume on a node, as the controller of volumes does.
func (w *whatIfWorld) volume(meta metav1.ObjectMeta, node string) {
	gi := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	meta.Annotations = map[string]string{"pv.kubernetes.io/bind-completed": "yes"}
	claim := harness.Create(w.T, w.lab, &corev1.PersistentVolumeClaim{ObjectMeta: meta, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: modes, StorageClassName: ptr.To("local"), VolumeName: meta.Name, Resources: corev1.VolumeResourceRequirements{Requests: gi},
	}})
	harness.Create(w.T, w.lab, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: meta.Name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: gi, AccessModes: modes, StorageClassName: "local", PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/models"}},
			ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
	})
}

func nodeName(i int) string                { return fmt.Sprintf("node-%03d", i) }
func className(value int32) string         { return fmt.Sprintf("class-%d", value) }
func oneOf[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// gpus returns the report of a node of 1 to 8 GPUs, on some of which somebody else holds memory.
func (w *whatIfWorld) gpus(node string) *berthv1alpha1.GPUNode {
	gn := bt.MakeGPUNode(node)
	total := oneOf(w.random, "40Gi", "80Gi", "80Gi", "141Gi")
	for i := range oneOf(w.random, 1, 2, 4, 8) {
		gn.GPU(fmt.Sprintf("GPU-%s-%d", node, i), total)
		if w.random.IntN(6) == 0 {
			gn.Process("", oneOf(w.random, "1Gi", "11Gi"))
		}
	}
	return gn.Obj()
}

// pod returns a pod as a user would write it.
func (w *whatIfWorld) pod(name string) *corev1.Pod {
	r := w.random
	p := bt.MakePod(name).Memory(fmt.Sprintf("%dGi", 4+r.IntN(200))).GPUCount(oneOf(r, "1", "1", "1,2", "1,2,4", "2", "4,8"))
	switch r.IntN(4) {
	case 0:
		p.Runtime("vllm").Args("--gpu-memory-utilization=$(BERTH_GPU_MEMORY_UTILIZATION)", "--tensor-parallel-size=$(BERTH_TENSOR_PARALLEL_SIZE)")
	case 1:
		p.Runtime("llama.cpp")
	}
	if r.IntN(5) == 0 {
		p.Annotation("min-runtime", "30m")
	}
	pod := p.Obj()
	pod.Spec.Containers[0].Env = nil // which the policy adds
	pod.Spec.PriorityClassName = className(oneOf[int32](r, 0, 0, 100, 200, 300))
	if pod.Spec.PriorityClassName == className(300) { // which nobody evicts: what has run, and runs no more, is in no snapshot
		pod.Annotations[berthv1alpha1.AnnotationModel] = oneOf(r, "hf://org/a", "hf://org/b")
	}
	pod.Spec.TerminationGracePeriodSeconds = ptr.To(int64(1))
	if r.IntN(4) == 0 {
		pod.Labels = map[string]string{guarded: "true"}
	}
	if r.IntN(4) == 0 {
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(oneOf(r, "1", "20", "40"))}
	}
	if r.IntN(8) == 0 {
		pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: nodeName(r.IntN(w.nodes))}
	}
	return pod
}

// result is what becomes of a pod, as a line that can be compared.
type result struct {
	Node    string
	Devices []whatif.Device
	Victims []string
	Pending string
}

func (w *whatIfWorld) ask(name string) {
	w.Helper()
	if w.random.IntN(6) == 0 {
		w.deleteOne()
	}
	w.settle()
	before := w.pods()
	pod := w.pod(name)
	w.claims(pod)
	snapshot, err := w.client.Snapshot(w.Context(), "")
	if err != nil {
		w.Fatal(err)
	}
	answer, err := whatif.Ask(w.Context(), snapshot, &whatif.Question{Pods: []*corev1.Pod{pod}})
	if err != nil {
		w.Fatal(err)
	}
	said := answer.Pods[0]
	want := result{Node: said.Node, Devices: said.Devices, Pending: said.Pending, Victims: []string{}}
	for _, v := range said.Victims {
		want.Victims = append(want.Victims, v.Name)
	}
	slices.Sort(want.Victims)

	harness.Create(w.T, w.lab, pod)
	got := result{Devices: []whatif.Device{}, Victims: []string{}}
	if want.Node == "" {
		got.Pending = w.lab.WaitUnschedulable(w.T, pod)
		w.settle()
		got.Node = w.lab.Pod(w.T, pod).Spec.NodeName
	} else {
		bound, allocation := w.lab.WaitBound(w.T, pod)
		got.Node = bound.Spec.NodeName
		got.Devices = devicesOf(allocation)
	}
	after := w.pods()
	for uid, p := range before {
		if now, ok := after[uid]; !ok || now.DeletionTimestamp != nil {
			got.Victims = append(got.Victims, p.Name)
		}
	}
	slices.Sort(got.Victims)
	if diff := cmp.Diff(want, got); diff != "" {
		w.Fatalf("%s: %v %s\n(-foretold +happened)\n%s", name, pod.Annotations, pod.Spec.PriorityClassName, diff)
	}
	switch {
	case got.Node == "":
		w.pending++
		w.lab.Delete(w.T, pod, 0)
		w.lab.WaitGone(w.T, pod)
	case len(got.Victims) > 0:
		w.evicting++
		w.placed++
	default:
		w.placed++
	}
}

func devicesOf(a *gpustate.Allocation) []whatif.Device {
	out := []whatif.Device{}
	if a != nil {
		for _, d := range a.Devices {
			out = append(out, whatif.Device{UUID: d.UUID, Memory: d.Memory.Uint64()})
		}
	}
	return out
}

func (w *whatIfWorld) pods() map[types.UID]*corev1.Pod {
	w.Helper()
	list := &corev1.PodList{}
	if err := w.lab.Client.List(w.Context(), list, client.InNamespace(bt.Namespace)); err != nil {
		w.Fatal(err)
	}
	pods := map[types.UID]*corev1.Pod{}
	for i := range list.Items {
		pods[list.Items[i].UID] = &list.Items[i]
	}
	return pods
}

// settle waits until all pods that are on a node are Ready, and none is going.
func (w *whatIfWorld) settle() {
	w.Helper()
	harness.Eventually(w.T, "all pods are Ready", func(context.Context) (bool, string) {
		for _, pod := range w.pods() {
			ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			})
			if pod.DeletionTimestamp != nil || pod.Spec.NodeName != "" && !ready {
				return false, pod.Name + " is not"
			}
		}
		return true, ""
	})
}

// deleteOne deletes a pod that has run for a while, and waits until it is gone. (For a pod that started just before it went, and
// was not measured, the scheduler keeps the memory for a few seconds, of which no object tells.)
func (w *whatIfWorld) deleteOne() {
	w.Helper()
	var names []string
	for _, pod := range w.pods() {
		status := pod.Status.ContainerStatuses
		if pod.Annotations[berthv1alpha1.AnnotationModel] == "" && len(status) > 0 && status[0].State.Running != nil && time.Since(status[0].State.Running.StartedAt.Time) > 5*time.Second {
			names = append(names, pod.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: bt.Namespace, Name: oneOf(w.random, names...)}}
	if err := w.lab.Client.Delete(w.Context(), pod, client.GracePeriodSeconds(1)); err != nil && !apierrors.IsNotFound(err) {
		w.Fatal(err)
	}
	w.lab.WaitGone(w.T, pod)
}
