// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestNobodyGetsOntoANodeWithoutWhatHeAsksFor tries to have a pod bound as one without a request that has one afterwards.
func TestNobodyGetsOntoANodeWithoutWhatHeAsksFor(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller")
	merge := func(ctx context.Context, pod *corev1.Pod, text string) error {
		return lab.Client.Patch(ctx, pod.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, []byte(text)))
	}
	const remove, put = `{"metadata":{"annotations":{"berth.dev/gpu-memory":null}}}`, `{"metadata":{"annotations":{"berth.dev/gpu-memory":"1Gi"}}}`

	t.Run("while PreBind holds the pod for a volume", func(t *testing.T) {
		s := newSite(t, lab, "volume", 1, "80Gi")
		harness.Create(t, lab, &storagev1.StorageClass{
			ObjectMeta: metav1.ObjectMeta{Name: "late"}, Provisioner: "example.test/nobody",
			VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer),
		})
		for _, asks := range []bool{true, false} {
			name := fmt.Sprintf("asks-%v", asks)
			claim := harness.Create(t, lab, lateClaim(name))
			pod := s.pod(name, "10Gi", func(p *corev1.Pod) {
				if !asks {
					p.Annotations = nil
				}
				p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
					PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
				}}}
			})
			pod = harness.Create(t, lab, pod)
			harness.Eventually(t, "the scheduler waits for the volume", func(ctx context.Context) (bool, string) {
				err := lab.Client.Get(ctx, client.ObjectKeyFromObject(claim), claim)
				return claim.Annotations["volume.kubernetes.io/selected-node"] != "", fmt.Sprint(claim.Annotations, err)
			})
			for _, patch := range []string{remove, put} {
				if err := merge(t.Context(), pod, patch); err == nil && (asks || patch == put) {
					t.Errorf("a patch of %s was accepted: %s", name, patch)
				}
			}
			provide(t, lab, claim)
			harness.Eventually(t, name+" is bound", func(context.Context) (bool, string) {
				got := lab.Pod(t, pod)
				return got.Spec.NodeName != "", fmt.Sprint(got.Status.Conditions)
			})
			if got := lab.Pod(t, pod); gpustate.LacksAllocation(got) || asks != (got.Annotations[berthv1alpha1.AnnotationAllocation] != "") {
				t.Errorf("%s is bound with %v", name, got.Annotations)
			}
		}
	})

	t.Run("as a race with the scheduler", func(t *testing.T) {
		s := newSite(t, lab, "race", 1, "80Gi")
		var group sync.WaitGroup
		for i := range 20 {
			pod := harness.Create(t, lab, s.pod(fmt.Sprintf("racer-%d", i), "1Gi", func(p *corev1.Pod) {
				p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.test/wait"}}
			}))
			group.Go(func() {
				_ = merge(t.Context(), pod, `{"metadata":{"annotations":{"berth.dev/gpu-memory":null}},"spec":{"schedulingGates":null}}`)
				_ = merge(t.Context(), pod, `{"spec":{"schedulingGates":null}}`)
				for range 10 {
					_ = merge(t.Context(), pod, remove)
					_ = merge(t.Context(), pod, put)
				}
			})
		}
		group.Wait()
		for i := range 20 {
			lab.WaitBound(t, s.pod(fmt.Sprintf("racer-%d", i), "1Gi"))
		}
		lab.WaitBound(t, harness.Create(t, lab, s.pod("honest", "1Gi")))
		checkBooks(t, lab)
	})

	t.Run("where no policy marks pods (Kubernetes 1.35), such a pod blocks nobody", func(t *testing.T) {
		s := newSite(t, lab, "unmarked", 1, "80Gi")
		if err := lab.Client.Delete(t.Context(), &admissionv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "berth-handoff"}}); err != nil {
			t.Fatal(err)
		}
		byHand := func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: berthv1alpha1.EnvVisibleDevices, ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{FieldPath: berthv1alpha1.VisibleDevicesFieldPath},
			}}}
			p.Spec.NodeSelector["site"] = "nowhere" // nobody is quicker than this test
		}
		harness.Eventually(t, "pods are not marked", func(ctx context.Context) (bool, string) {
			probe := s.pod("probe", "1Gi", byHand)
			err := lab.Client.Create(ctx, probe, client.DryRunAll)
			return err == nil && probe.Labels[berthv1alpha1.LabelAllocated] == "", fmt.Sprint(probe.Labels, err)
		})
		stray := harness.Create(t, lab, s.pod("stray", "70Gi", byHand))
		binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: s.node.Name}}
		if err := lab.Client.SubResource("binding").Create(t.Context(), stray, binding); err != nil {
			t.Fatal(err)
		}
		if err := merge(t.Context(), stray, remove); err == nil {
			t.Error("its request was taken away")
		}
		s.hold(0, stray.UID, "20Gi")
		harness.Eventually(t, "its owner is told", func(context.Context) (bool, string) {
			got := s.events(stray, "BoundWithoutGPUMemory")
			return len(got) == 1, strings.Join(got, "; ")
		})
		harness.Create(t, lab, s.pod("too-much", "61Gi", func(p *corev1.Pod) { atHome(s, p, byHand) }))
		lab.WaitUnschedulable(t, s.pod("too-much", "61Gi"))
		lab.WaitBound(t, harness.Create(t, lab, s.pod("honest", "55Gi", func(p *corev1.Pod) { atHome(s, p, byHand) })))
	})
}

// atHome applies a change, and lets the pod go to the site all the same.
func atHome(s *site, p *corev1.Pod, change func(*corev1.Pod)) {
	change(p)
	p.Spec.NodeSelector["site"] = s.node.Name
}

// lateClaim is a claim whose volume is made once a pod that uses it has a node.
func lateClaim(name string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To("late"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
}

// provide does what a provisioner and the volume controller do.
func provide(t *testing.T, lab *harness.Lab, claim *corev1.PersistentVolumeClaim) {
	t.Helper()
	harness.Create(t, lab, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: claim.Name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: "late", AccessModes: claim.Spec.AccessModes, Capacity: claim.Spec.Resources.Requests,
			ClaimRef:               &corev1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"}},
		},
	})
	claim.Spec.VolumeName = claim.Name
	claim.Annotations["pv.kubernetes.io/bind-completed"] = "yes"
	if err := lab.Client.Update(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	claim.Status.Phase = corev1.ClaimBound
	if err := lab.Client.Status().Update(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
}
