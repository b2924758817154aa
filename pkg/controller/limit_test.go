// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// in makes a pod one of a namespace, of a model.
func in(namespace, model string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Namespace = namespace
		p.Annotations[berthv1alpha1.AnnotationModel] = model
	}
}

// create creates a pod and reconciles it. It returns what the pod was told.
func (w *world) create(pod *corev1.Pod) string {
	w.t.Helper()
	if err := w.client.Create(w.t.Context(), pod); err != nil {
		w.t.Fatal(err)
	}
	return w.again(pod)
}

func (w *world) again(pod *corev1.Pod) string {
	w.t.Helper()
	if _, err := w.pods.Reconcile(w.t.Context(), request(pod.Namespace, pod.Name)); err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(w.told(), "\n")
}

func (w *world) sources() string {
	w.t.Helper()
	var profiles berthv1alpha1.ModelProfileList
	if err := w.client.List(w.t.Context(), &profiles); err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for i := range profiles.Items {
		all = append(all, strings.TrimPrefix(profiles.Items[i].Spec.Source, "hf://"))
	}
	return strings.Join(all, " ")
}

// TestProfilesOfANamespaceAreLimited is attack 15: 200 pods with URIs that somebody makes up.
func TestProfilesOfANamespaceAreLimited(t *testing.T) {
	w := newWorld(t)
	w.pods.profilesPerNamespace = 5
	var pods []*corev1.Pod
	refused := 0
	for i := range 20 {
		pod := modelPod(fmt.Sprintf("p%d", i), in("mallory", fmt.Sprintf("hf://made/up-%d", i)))
		pods = append(pods, pod)
		if told := w.create(pod); strings.Contains(told, "Warning "+EventLimit) {
			refused++
			for _, part := range []string{fmt.Sprintf("hf://made/up-%d", i), "namespace mallory name 5 models", "berth.dev/gpu-memory", "--profiles-per-namespace"} {
				if !strings.Contains(told, part) {
					t.Fatalf("told %q, want %q in it", told, part)
				}
			}
		}
	}
	if got := w.sources(); len(strings.Fields(got)) != 5 || refused != 15 {
		t.Fatalf("%d pods were refused and there are profiles of %s; want 15, and 5 of them", refused, got)
	}
	if told := w.create(modelPod("same", in("mallory", "hf://made/up-0"))); !strings.Contains(told, EventWaiting) {
		t.Errorf("a pod of a model that has a profile was told %q", told)
	}
	if told := w.create(modelPod("other", in("alice", "hf://org/model"))); !strings.Contains(told, EventWaiting) {
		t.Errorf("a pod of another namespace was told %q", told)
	}
	// A pod goes, and the next one gets its place.
	w.delete(pods[3])
	if told := w.again(pods[10]); !strings.Contains(told, EventWaiting) {
		t.Errorf("told %q once there is room", told)
	}
	if got := w.sources(); slices.Contains(strings.Fields(got), "made/up-3") || !strings.Contains(got, "up-10") || len(strings.Fields(got)) != 6 {
		t.Errorf("profiles of %s, want that of up-10 in the place of that of up-3", got)
	}
}

func TestProfileThatWasNotUsedForLongestMakesRoom(t *testing.T) {
	w := newWorld(t)
	w.pods.profilesPerNamespace = 3
	for i, name := range []string{"hf://org/b", "hf://org/a", "hf://org/c"} {
		pod := modelPod(fmt.Sprintf("p%d", i), in("alice", name))
		w.create(pod)
		if _, err := w.profiles.Reconcile(t.Context(), request("", berthv1alpha1.ModelProfileName(name))); err != nil {
			t.Fatal(err)
		}
		w.delete(pod)
		w.advance(2 * time.Hour)
	}
	if told := w.create(modelPod("p", in("alice", "hf://org/d"))); !strings.Contains(told, EventWaiting) {
		t.Fatalf("told %q", told)
	}
	if got := w.sources(); got != "org/a org/c org/d" {
		t.Errorf("profiles of %s, want that the first, of b, made room", got)
	}
}

// TestNobodyUsesUpTheLimitOfAnotherNamespace: its profiles stay as long as pods of others name them.
func TestNobodyUsesUpTheLimitOfAnotherNamespace(t *testing.T) {
	w := newWorld(t)
	w.pods.profilesPerNamespace = 2
	for i := range 2 {
		model := fmt.Sprintf("hf://org/m%d", i)
		pod := modelPod(fmt.Sprintf("p%d", i), in("alice", model))
		w.create(pod)
		w.create(modelPod(fmt.Sprintf("p%d", i), in("mallory", model)))
		w.delete(pod)
	}
	if told := w.create(modelPod("p", in("alice", "hf://org/d"))); !strings.Contains(told, EventWaiting) {
		t.Errorf("told %q though no pod of its namespace names a model", told)
	}
}

// TestLimitHoldsThoughTheCacheIsBehind: profiles that were made a moment ago are not in it yet.
func TestLimitHoldsThoughTheCacheIsBehind(t *testing.T) {
	w := newWorld(t)
	w.pods.profilesPerNamespace = 2
	w.pods.client = forgetful{w.client}
	for i := range 5 {
		w.create(modelPod(fmt.Sprintf("p%d", i), in("mallory", fmt.Sprintf("hf://made/up-%d", i))))
	}
	if got := w.sources(); len(strings.Fields(got)) != 2 {
		t.Errorf("profiles of %s, want 2", got)
	}
	w.pods.client = forgetsAll{w.pods.client}
	if told := w.create(modelPod("again", in("mallory", "hf://made/up-1"))); strings.Contains(told, EventLimit) {
		t.Errorf("told %q, though the profile of its model was made a moment ago", told)
	}
}

// forgetsAll is a client that has no profile yet.
type forgetsAll struct{ client.Client }

func (c forgetsAll) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if _, ok := obj.(*berthv1alpha1.ModelProfile); ok {
		return apierrors.NewNotFound(berthv1alpha1.GroupVersion.WithResource("modelprofiles").GroupResource(), key.Name)
	}
	return c.Client.Get(ctx, key, obj, opts...)
}

// forgetful is a client whose lists of profiles are always those of before.
type forgetful struct{ client.Client }

func (c forgetful) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if _, ok := list.(*berthv1alpha1.ModelProfileList); ok {
		return nil
	}
	return c.Client.List(ctx, list, opts...)
}
