// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestUpgrade is about an upgrade as docs/install.md has it, and a downgrade: CustomResourceDefinitions (which a downgrade
// keeps), the other manifests, and then the parts one after the other, in every order. After each step nothing is lost and
// nobody is evicted, and new pods are placed. The control plane, and what is installed at first, is the earlier commit's.
func TestUpgrade(t *testing.T) {
	if os.Getenv(envUpgrade) == "" {
		t.Skip("needs programs of two versions: make test-upgrade")
	}
	for _, order := range [][]string{
		{partAgent, partController, partScheduler}, {partAgent, partScheduler, partController},
		{partController, partAgent, partScheduler}, {partController, partScheduler, partAgent},
		{partScheduler, partAgent, partController}, {partScheduler, partController, partAgent},
	} {
		t.Run(strings.Join(order, "-"), func(t *testing.T) { upgrade(t, order) })
	}
}

func upgrade(t *testing.T, order []string) {
	before := newRelease(t, "old", filepath.Join(os.Getenv(envUpgradeSource), "manifests"))
	after := newRelease(t, "new", filepath.Join("..", "..", "manifests"), "--pod-logs-dir=")
	hub := modeltest.NewServer(t, nil)
	hub.Add("/org/tiny/resolve/main/x.gguf", modeltest.Tiny.GGUF())
	lab := harness.Start(t, "--bare", "--no-scheduler", "--no-controller")
	priorityClass(t, lab, "low", 10)
	priorityClass(t, lab, "high", 1000)
	priorityClass(t, lab, "kept", 10000)
	u := &upgraded{installation: newInstallation(t, lab, hub.URL, 2, 3), hub: hub}

	parts := []string{partAgent, partController, partScheduler}
	for _, part := range parts {
		u.replace(part, before)
	}
	u.populate()
	u.check("before")
	u.writeGolden()

	u.installObjects(after.crds)
	u.check("new CustomResourceDefinitions")
	u.installObjects(after.rest)
	// The newer policies have it refer to what the older scheduler does not write, so that it waits for the newer one.
	late := u.createLate()
	for n, part := range order {
		u.replace(part, after)
		if part == partScheduler {
			u.keep(late)
		}
		u.check("new " + strings.Join(order[:n+1], ", "))
	}
	u.finishPreemption("after the upgrade")

	u.preempt()
	u.check("upgraded")
	stuck := harness.Create(t, lab, u.pod("stuck", "10Gi", gated))
	u.installObjects(before.rest)
	for n, part := range order {
		u.replace(part, before)
		u.check("again old " + strings.Join(order[:n+1], ", "))
	}
	// It refers to what the older scheduler does not write, and waits until it is made anew.
	u.ungate(stuck)
	u.waitPodScheduled(stuck, corev1.PodReasonUnschedulable)
	u.check("downgraded")
	u.finishPreemption("after the downgrade")

	// The mishap that docs/install.md warns of, and its cure.
	u.preempt()
	u.installObjects(before.crds)
	u.remakeReports(before)
	u.check("older CustomResourceDefinitions")
	u.finishPreemption("with older CustomResourceDefinitions")
	u.check("at the end")
}

// upgraded is an installation and what must outlive an upgrade of it.
type upgraded struct {
	*installation
	hub *modeltest.Server
	// kept are the bound pods, as they are written down: their node, and what the scheduler wrote.
	kept map[types.NamespacedName]boundPod
	// unplaced is a pod for which there is no room.
	unplaced *corev1.Pod
	// victim goes slowly, and preemptor waits for what it holds.
	victim, preemptor *corev1.Pod
	tries             int
}

type boundPod struct {
	UID     types.UID
	Node    string
	Written map[string]string
}

// pod returns a pod. With toUUIDs, schedulers of both versions take it.
func (u *upgraded) pod(name, memory string, edits ...func(*corev1.Pod)) *corev1.Pod {
	p := berthtesting.MakePod(name).Memory(memory).Obj()
	for _, edit := range edits {
		edit(p)
	}
	return p
}

// populate makes pods of all kinds, on two nodes of three GPUs of 80 GiB.
func (u *upgraded) populate() {
	u.t.Helper()
	kept := priority("kept")
	u.keep(harness.Create(u.t, u.Lab, u.pod("two-gpus", "110Gi", toUUIDs, counts("2"), kept)))
	u.keep(harness.Create(u.t, u.Lab, u.pod("one-gpu", "50Gi", toUUIDs, kept)))
	u.keep(harness.Create(u.t, u.Lab, u.modelPod("model", "tiny", kept)))
	u.preempt()
	// It takes from the victim's node what would have room for the pod without room, once the victim is gone.
	beside := func(p *corev1.Pod) {
		p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: u.kept[client.ObjectKeyFromObject(u.victim)].Node}
	}
	u.keep(harness.Create(u.t, u.Lab, u.pod("beside", "10Gi", toUUIDs, kept, beside)))
	u.unplaced = harness.Create(u.t, u.Lab, u.pod("unplaced", "225Gi", toUUIDs, counts("3")))
	u.WaitUnschedulable(u.t, u.unplaced)
}

// modelPod returns such a pod whose memory the controller has to find out.
func (u *upgraded) modelPod(name, model string, edits ...func(*corev1.Pod)) *corev1.Pod {
	p := berthtesting.MakePod(name).Model("hf://org/"+model+"/x.gguf").Runtime(berthv1alpha1.RuntimeLlamaCpp).GPUCount("1").
		Annotation("context-length", "1024").Obj()
	for _, edit := range append(edits, toUUIDs) {
		edit(p)
	}
	return p
}

// gated keeps a pod from its scheduler.
func gated(p *corev1.Pod) {
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.test/later"}}
}

func (u *upgraded) ungate(pod *corev1.Pod) {
	u.t.Helper()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"schedulingGates":null}}`))
	if err := u.Client.Patch(u.t.Context(), pod, patch); err != nil {
		u.t.Fatal(err)
	}
}

// createLate creates a pod without a reference, for which the newer policies put in theirs as soon as the apiserver has
// loaded them.
func (u *upgraded) createLate() *corev1.Pod {
	u.t.Helper()
	late := u.pod("late", "10Gi", priority("kept"))
	late.Spec.Containers[0].Env = nil
	harness.Eventually(u.t, "the newer policies are in force", func(ctx context.Context) (bool, string) {
		try := late.DeepCopy()
		try.UID, try.ResourceVersion = "", ""
		if err := u.Client.Create(ctx, try, client.DryRunAll); err != nil {
			return false, err.Error()
		}
		for _, e := range try.Spec.Containers[0].Env {
			if e.Name == berthv1alpha1.EnvVisibleDevices && e.ValueFrom != nil && e.ValueFrom.FieldRef.FieldPath == berthv1alpha1.VisibleDevicesFieldPath {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%+v", try.Spec.Containers[0].Env)
	})
	return harness.Create(u.t, u.Lab, late)
}

// waitPodScheduled waits until a pod is not scheduled for a reason.
func (u *upgraded) waitPodScheduled(pod *corev1.Pod, reason string) {
	u.t.Helper()
	harness.Eventually(u.t, "pod "+pod.Name+" is "+reason, func(context.Context) (bool, string) {
		now := u.Pod(u.t, pod)
		for _, c := range now.Status.Conditions {
			if c.Type == corev1.PodScheduled {
				return c.Status == corev1.ConditionFalse && c.Reason == reason, fmt.Sprintf("%+v", c)
			}
		}
		return false, "no condition"
	})
}

// keep waits until a pod is bound, makes it hold what it booked, and writes it down.
func (u *upgraded) keep(pod *corev1.Pod) *corev1.Pod {
	u.t.Helper()
	bound, allocation := u.WaitBound(u.t, pod)
	if allocation == nil {
		u.t.Fatalf("pod %s is bound without an allocation", pod.Name)
	}
	u.hold(bound)
	u.waitReports(time.Time{})
	if u.kept == nil {
		u.kept = map[types.NamespacedName]boundPod{}
	}
	u.kept[client.ObjectKeyFromObject(bound)] = written(bound)
	return bound
}

// written is what the scheduler wrote into a pod.
func written(pod *corev1.Pod) boundPod {
	w := boundPod{UID: pod.UID, Node: pod.Spec.NodeName, Written: map[string]string{}}
	for key, value := range pod.Annotations {
		if strings.HasPrefix(key, berthv1alpha1.GroupName+"/") {
			w.Written[key] = value
		}
	}
	w.Written["label "+berthv1alpha1.LabelAllocated] = pod.Labels[berthv1alpha1.LabelAllocated]
	return w
}

// preempt places a pod that goes slowly on the only two GPUs of a node that are free, and makes it a victim.
func (u *upgraded) preempt() {
	u.t.Helper()
	u.tries++
	u.victim = u.keep(harness.Create(u.t, u.Lab, u.pod(fmt.Sprintf("victim-%d", u.tries), "150Gi", toUUIDs, counts("2"), priority("low"), grace(3600))))
	u.preemptor = harness.Create(u.t, u.Lab, u.pod(fmt.Sprintf("preemptor-%d", u.tries), "150Gi", toUUIDs, counts("2"), priority("high")))
	harness.Eventually(u.t, "the preemptor is nominated and its victim goes", func(context.Context) (bool, string) {
		p, v := u.Pod(u.t, u.preemptor), u.Pod(u.t, u.victim)
		return p.Status.NominatedNodeName == v.Spec.NodeName && v.DeletionTimestamp != nil,
			fmt.Sprintf("nominated to %q, victim deleted at %v", p.Status.NominatedNodeName, v.DeletionTimestamp)
	})
}

// finishPreemption ends the victim: the preemptor gets its GPUs, and is then ended itself.
func (u *upgraded) finishPreemption(when string) {
	u.t.Helper()
	had := u.kept[client.ObjectKeyFromObject(u.victim)]
	u.Delete(u.t, u.victim, 0)
	u.WaitGone(u.t, u.victim.DeepCopy())
	u.letGo(u.victim)
	u.waitReports(time.Time{})
	delete(u.kept, client.ObjectKeyFromObject(u.victim))
	bound, _ := u.WaitBound(u.t, u.preemptor)
	if bound.Spec.NodeName != had.Node {
		u.t.Errorf("%s: the preemptor is on %s, want %s, where its victim was", when, bound.Spec.NodeName, had.Node)
	}
	u.Delete(u.t, bound, 0)
	u.WaitGone(u.t, bound.DeepCopy())
}

// check fails the test if anything was lost since the pods were written down, or nothing new is placed.
func (u *upgraded) check(when string) {
	u.t.Helper()
	u.t.Logf("checking: %s", when)
	u.placeAnother(when)
	got := map[types.NamespacedName]boundPod{}
	var pods corev1.PodList
	if err := u.Client.List(u.t.Context(), &pods); err != nil {
		u.t.Fatal(err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Spec.NodeName != "" && pod.Spec.SchedulerName == berthv1alpha1.SchedulerName {
			got[client.ObjectKeyFromObject(pod)] = written(pod)
		}
		if pod.DeletionTimestamp != nil && pod.UID != u.victim.UID {
			u.t.Errorf("%s: pod %s was evicted: %v", when, pod.Name, pod.Status.Conditions)
		}
	}
	if diff := cmp.Diff(u.kept, got); diff != "" {
		u.t.Errorf("%s: bound pods (-were +are):\n%s", when, diff)
	}
	checkBooks(u.t, u.Lab)
	u.WaitUnschedulable(u.t, u.unplaced)
	if u.preemptor != nil {
		p := &corev1.Pod{}
		if err := u.Client.Get(u.t.Context(), client.ObjectKeyFromObject(u.preemptor), p); err == nil && p.Status.NominatedNodeName != u.kept[client.ObjectKeyFromObject(u.victim)].Node {
			u.t.Errorf("%s: the preemptor is nominated to %q", when, p.Status.NominatedNodeName)
		}
	}
	u.waitReports(time.Time{})
	u.checkStored(when)
}

// placeAnother places pods that are new, one of a model that is known and one of a model that nobody asked for yet.
func (u *upgraded) placeAnother(when string) {
	u.t.Helper()
	u.tries++
	model := fmt.Sprintf("model-%d", u.tries)
	u.hub.Add("/org/"+model+"/resolve/main/x.gguf", modeltest.Tiny.GGUF())
	for _, pod := range []*corev1.Pod{
		u.pod(fmt.Sprintf("plain-%d", u.tries), "5Gi", toUUIDs),
		u.modelPod(fmt.Sprintf("known-%d", u.tries), "tiny"),
		u.modelPod(fmt.Sprintf("unknown-%d", u.tries), model),
	} {
		bound, allocation := u.WaitBound(u.t, harness.Create(u.t, u.Lab, pod))
		if allocation == nil || bound.Annotations[berthv1alpha1.AnnotationGPUUUIDs] == "" {
			u.t.Errorf("%s: pod %s is bound to %s without GPUs", when, pod.Name, bound.Spec.NodeName)
		}
		u.Delete(u.t, bound, 0)
		u.WaitGone(u.t, bound)
	}
}

// checkStored reads all that is stored, as it is served.
func (u *upgraded) checkStored(when string) {
	u.t.Helper()
	var profiles berthv1alpha1.ModelProfileList
	if err := u.Client.List(u.t.Context(), &profiles); err != nil {
		u.t.Fatalf("%s: %v", when, err)
	}
	if !slices.ContainsFunc(profiles.Items, func(p berthv1alpha1.ModelProfile) bool {
		return p.Spec.Source == "hf://org/tiny/x.gguf" && p.IsReady()
	}) {
		u.t.Errorf("%s: the profile of the model is not Ready: %+v", when, profiles.Items)
	}
	// What is stored passes what the schema asks for now: a write that changes nothing is accepted.
	for _, kind := range []string{"GPUNode", "ModelProfile"} {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(berthv1alpha1.GroupVersion.String())
		list.SetKind(kind + "List")
		if err := u.Client.List(u.t.Context(), list); err != nil {
			u.t.Fatalf("%s: %v", when, err)
		}
		for i := range list.Items {
			if err := u.Client.Status().Update(u.t.Context(), &list.Items[i], client.DryRunAll); err != nil && !apierrors.IsConflict(err) {
				u.t.Errorf("%s: %s %s: %v", when, kind, list.Items[i].GetName(), err)
			}
		}
	}
}

// writeGolden writes what the earlier version stored into a folder, from which the short tests read it.
func (u *upgraded) writeGolden() {
	u.t.Helper()
	dir := os.Getenv(envUpgradeGolden)
	if dir == "" {
		return
	}
	for file, list := range map[string]client.ObjectList{
		"gpunodes.yaml": &berthv1alpha1.GPUNodeList{}, "modelprofiles.yaml": &berthv1alpha1.ModelProfileList{}, "pods.yaml": &corev1.PodList{},
	} {
		raw := &unstructured.UnstructuredList{}
		gvk, err := u.Client.GroupVersionKindFor(list)
		if err != nil {
			u.t.Fatal(err)
		}
		raw.SetGroupVersionKind(gvk)
		if err := u.Client.List(u.t.Context(), raw); err != nil {
			u.t.Fatal(err)
		}
		for i := range raw.Items {
			raw.Items[i].SetManagedFields(nil)
		}
		text, err := yaml.Marshal(raw)
		if err != nil {
			u.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o644); err != nil {
			u.t.Fatal(err)
		}
	}
}
