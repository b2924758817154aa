// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/modelsource"
)

// world is a controller over a fake API server, with a clock that the test moves.

// fakeResolver answers with what the test sets.

// pod reconciles a pod and returns what it was told since the last time.

// profile reconciles the profile of source and returns it, nil when it is gone, and when it is looked at again.

func TestHundredPodsMakeOneProfileThatIsResolvedOnce(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		if err := w.client.Create(t.Context(), modelPod(fmt.Sprintf("p%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if told := w.pod(fmt.Sprintf("p%d", i)); len(told) != 1 || !strings.Contains(told[0], EventWaiting) {
			t.Fatalf("pod %d was told %q, want that it waits", i, told)
		}
	}
	for range 100 {
		w.profile()
	}
	p, _ := w.profile()
	if !p.IsReady() || p.Status.Model == nil || p.Status.Revision != "rev-v1" || p.Status.Size == "" {
		t.Errorf("the profile is not ready: %+v", p.Status)
	}
	if w.resolver.calls != 1 {
		t.Errorf("the model was looked up %d times, want once", w.resolver.calls)
	}
	for i := range 100 {
		if told := w.pod(fmt.Sprintf("p%d", i)); len(told) != 0 {
			t.Fatalf("pod %d was told %q though it is released", i, told)
		}
	}
}

func TestPodsThatNeedNoProfile(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"without a model":      func(p *corev1.Pod) { p.Annotations = nil },
		"of another scheduler": func(p *corev1.Pod) { p.Spec.SchedulerName = "default-scheduler" },
		"that is over":         func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, modelPod("p", change))
			told := w.pod("p")
			var profiles berthv1alpha1.ModelProfileList
			if err := w.client.List(t.Context(), &profiles); err != nil {
				t.Fatal(err)
			}
			if len(profiles.Items) != 0 || len(told) != 0 {
				t.Errorf("%d profiles and %q, want nothing", len(profiles.Items), told)
			}
		})
	}
}

func TestPodWithItsMemoryWrittenDownIsNotGatedButObserved(t *testing.T) {
	w := newWorld(t, modelPod("p", func(p *corev1.Pod) { p.Annotations[berthv1alpha1.AnnotationGPUMemory] = "30Gi" }))
	if told := w.pod("p"); len(told) != 0 {
		t.Errorf("told %q though it waits for nothing", told)
	}
	if p, _ := w.profile(); p == nil || !p.IsReady() {
		t.Error("it has no profile to be observed in")
	}
}

func TestPodIsToldWhyOnceUntilTheReasonChangesOrTheEventExpires(t *testing.T) {
	w := newWorld(t, modelPod("p"))
	w.pod("p")
	w.resolver.err = &modelsource.Error{Reason: modelsource.NotFound, Message: "no such model"}
	w.profile()
	told := w.pod("p")
	if len(told) != 1 || !strings.Contains(told[0], "NotFound: no such model") || !strings.Contains(told[0], "Warning "+EventUnknown) {
		t.Fatalf("told %q, want why", told)
	}
	if told := w.pod("p"); len(told) != 0 {
		t.Errorf("told %q again", told)
	}
	w.advance(repeatAfter + time.Second)
	if told := w.pod("p"); len(told) != 1 {
		t.Errorf("told %q, want it again before the first Event is forgotten", told)
	}
	w.resolver.err = &modelsource.Error{Reason: modelsource.Unauthorized, Message: "no token"}
	w.profile()
	if told := w.pod("p"); len(told) != 1 || !strings.Contains(told[0], "Unauthorized") {
		t.Errorf("told %q, want the new reason", told)
	}
	w.delete(modelPod("p"))
	w.pod("p")
	if len(w.pods.tell.told) != 0 {
		t.Error("what gone pods were told is remembered")
	}
}

func TestPodOfAMissingProfileIsTold(t *testing.T) {
	w := newWorld(t, modelPod("p", func(p *corev1.Pod) { p.Annotations[berthv1alpha1.AnnotationModel] = "profile://tuned" }))
	if told := w.pod("p"); len(told) != 1 || !strings.Contains(told[0], EventNoProfile) {
		t.Errorf("told %q, want that the profile is missing", told)
	}
	var profiles berthv1alpha1.ModelProfileList
	if err := w.client.List(t.Context(), &profiles); err != nil || len(profiles.Items) != 0 {
		t.Errorf("%d profiles were made (%v), want none: only an admin can", len(profiles.Items), err)
	}
}

// TestTakenNameKeepsNobodyWaiting is attack 10: a URI whose eight digits are those of a shared model is found in a minute.
func TestTakenNameKeepsNobodyWaiting(t *testing.T) {
	names := berthv1alpha1.ModelProfileNames(source)
	taken := func(name string) *berthv1alpha1.ModelProfile {
		return &berthv1alpha1.ModelProfile{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, CreationTimestamp: metav1.NewTime(testTime.Add(-60 * 24 * time.Hour)),
				Labels: map[string]string{berthv1alpha1.LabelManagedBy: berthv1alpha1.ManagedByController},
			},
			Spec: berthv1alpha1.ModelProfileSpec{Source: "hf://org/other"},
		}
	}
	w := newWorld(t, modelPod("p"), taken(names[0]))
	if told := w.pod("p"); len(told) != 1 || !strings.Contains(told[0], "Waiting until the memory of "+source) {
		t.Errorf("told %q, want that it waits", told)
	}
	if _, err := w.profiles.Reconcile(t.Context(), request("", names[1])); err != nil {
		t.Fatal(err)
	}
	var p berthv1alpha1.ModelProfile
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: names[1]}, &p); err != nil || !p.IsReady() || p.Spec.Source != source {
		t.Fatalf("the profile under the second name: error %v, ready %v, of %s", err, p.IsReady(), p.Spec.Source)
	}
	if told := w.pod("p"); len(told) != 0 {
		t.Errorf("told %q once its model is known", told)
	}
	// The pod is no use of the profile that has its name.
	if _, err := w.profiles.Reconcile(t.Context(), request("", names[0])); err != nil {
		t.Fatal(err)
	}
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: names[0]}, &p); !apierrors.IsNotFound(err) {
		t.Errorf("the unused profile of the other model: error %v, want that it was deleted", err)
	}
	if w.pod("p"); w.client.Get(t.Context(), client.ObjectKey{Name: names[0]}, &p) == nil {
		t.Error("a second profile was made once the first name was free")
	}

	w = newWorld(t, modelPod("p"), taken(names[0]), taken(names[1]))
	if told := w.pod("p"); len(told) != 1 || !strings.Contains(told[0], "hf://org/other") {
		t.Errorf("told %q where an admin's profiles have both names, want the conflict", told)
	}
}

func TestFailuresAreRetriedByTheirReason(t *testing.T) {
	for _, tc := range []struct {
		name       string
		err        modelsource.Error
		firstBelow time.Duration
		lastBelow  time.Duration
	}{
		{"an unreachable hub soon", modelsource.Error{Reason: modelsource.Unreachable}, 6 * time.Second, 6 * time.Minute},
		{"a hub that asked for more time not before", modelsource.Error{Reason: modelsource.Unreachable, RetryAfter: 10 * time.Minute}, 11 * time.Minute, 11 * time.Minute},
		{"a missing model within minutes", modelsource.Error{Reason: modelsource.NotFound}, 20 * time.Second, 3 * time.Minute},
		{"an unsupported one hardly ever", modelsource.Error{Reason: modelsource.Unsupported}, 67 * time.Minute, 67 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, modelPod("p"))
			w.pod("p")
			w.resolver.err = &tc.err
			p, first := w.profile()
			if c := p.ReadyCondition(); c.Status != metav1.ConditionFalse || c.Reason != string(tc.err.Reason) {
				t.Fatalf("condition %+v, want %s", c, tc.err.Reason)
			}
			if first > tc.firstBelow || first < tc.err.RetryAfter {
				t.Errorf("the first retry is after %v, want at most %v and at least %v", first, tc.firstBelow, tc.err.RetryAfter)
			}
			if calls := w.resolver.calls; calls != 1 {
				t.Errorf("looked up %d times", calls)
			}
			w.profile() // before it is time
			if w.resolver.calls != 1 {
				t.Error("it was looked up again before it was time")
			}
			var last time.Duration
			for range 20 {
				w.advance(2 * time.Hour)
				_, last = w.profile()
			}
			if last > tc.lastBelow || w.resolver.calls != 21 {
				t.Errorf("the last retry is after %v (want at most %v), %d look-ups (want 21)", last, tc.lastBelow, w.resolver.calls)
			}
			w.resolver.err = nil
			w.advance(2 * time.Hour)
			if p, _ = w.profile(); !p.IsReady() {
				t.Error("it did not recover")
			}
		})
	}
}

func TestReadyProfileStaysReadyWhenItsSourceGoesAway(t *testing.T) {
	w := newWorld(t, modelPod("p"))
	w.pod("p")
	w.profile()
	w.resolver.err = &modelsource.Error{Reason: modelsource.Unreachable, Message: "gone"}
	w.advance(24 * time.Hour)
	if p, _ := w.profile(); !p.IsReady() || w.resolver.calls != 2 {
		t.Errorf("%d look-ups and status %+v, want 2 and Ready", w.resolver.calls, p.Status.Conditions)
	}
}

func TestAnotherRevisionForgetsPeaksAndTheSameOneKeepsThem(t *testing.T) {
	w := newWorld(t, modelPod("p"))
	w.pod("p")
	p, _ := w.profile()
	fold(p, of("ns", 1, llama, gib), testTime)
	if err := w.client.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w.advance(24 * time.Hour)
	if p, _ = w.profile(); len(p.Status.ObservedPeaks) != 1 || p.Status.RevisionTime != nil {
		t.Errorf("%d peaks after the same revision was found, want 1", len(p.Status.ObservedPeaks))
	}
	w.resolver.etag = "v2"
	w.advance(24 * time.Hour)
	p, _ = w.profile()
	if len(p.Status.ObservedPeaks) != 0 || p.Status.Revision != "rev-v2" || p.Status.RevisionTime == nil {
		t.Errorf("after another revision: %+v", p.Status)
	}
}

func TestUnusedProfilesAreCollected(t *testing.T) {
	options := DefaultOptions()
	byHand := &berthv1alpha1.ModelProfile{
		ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.ModelProfileName(source), CreationTimestamp: metav1.NewTime(testTime)},
		Spec:       berthv1alpha1.ModelProfileSpec{Source: source},
	}
	managed := byHand.DeepCopy()
	managed.Labels = map[string]string{berthv1alpha1.LabelManagedBy: berthv1alpha1.ManagedByController}
	measured := managed.DeepCopy()
	measured.Status.ETag = "v1"
	measured.Status.ObservedPeaks = []berthv1alpha1.ObservedPeak{{GPUCount: 1, Samples: 1}}
	promoted := managed.DeepCopy()
	promoted.Spec.PeaksFrom = []string{"platform"}
	for _, tc := range []struct {
		name    string
		profile *berthv1alpha1.ModelProfile
		err     error
		after   time.Duration
		kept    bool
	}{
		{"one in which an admin chose whose peaks count stays", promoted, nil, 10 * options.ProfileTTL, true},
		{"one that nothing was measured of goes soon, which ends attack 15", managed, nil, options.FailedProfileTTL + time.Minute, false},
		{"a measured one is kept while it may be used again", measured, nil, options.ProfileTTL - 2*time.Hour, true},
		{"a measured one goes after its time", measured, nil, options.ProfileTTL + time.Hour, false},
		{"a failed one goes sooner", managed, &modelsource.Error{Reason: modelsource.NotFound}, options.FailedProfileTTL + time.Minute, false},
		{"one made by hand stays", byHand, nil, 10 * options.ProfileTTL, true},
		{"one made by hand stays though it failed", byHand, &modelsource.Error{Reason: modelsource.NotFound}, 10 * options.ProfileTTL, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := modelPod("p")
			w := newWorld(t, pod, tc.profile.DeepCopy())
			w.resolver.err = tc.err
			w.profile()
			w.advance(10 * options.ProfileTTL)
			if p, _ := w.profile(); p == nil {
				t.Fatal("it was collected while a pod names it")
			}
			w.delete(pod)
			if p, _ := w.profile(); p == nil {
				t.Fatal("it was collected the moment that its pod went")
			}
			w.advance(tc.after)
			if p, _ := w.profile(); (p != nil) != tc.kept {
				t.Errorf("kept = %v, want %v", p != nil, tc.kept)
			}
		})
	}
}

func TestStatusIsWrittenThoughSomebodyElseDid(t *testing.T) {
	profile := &berthv1alpha1.ModelProfile{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: berthv1alpha1.ModelProfileSpec{Source: source}}
	w := newWorld(t, profile)
	stale := &berthv1alpha1.ModelProfile{}
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "p"}, stale); err != nil {
		t.Fatal(err)
	}
	fresh := stale.DeepCopy()
	fresh.Status.Revision = "theirs"
	if err := w.client.Status().Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	err := w.profiles.status.patch(t.Context(), stale, func(s *berthv1alpha1.ModelProfileStatus) { s.Size = "ours" })
	if err != nil {
		t.Fatal(err)
	}
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "p"}, fresh); err != nil {
		t.Fatal(err)
	}
	if fresh.Status.Revision != "theirs" || fresh.Status.Size != "ours" {
		t.Errorf("got revision %q and size %q, want both writes", fresh.Status.Revision, fresh.Status.Size)
	}
}

func TestCacheKeepsWhatIsReadAndNoMore(t *testing.T) {
	pod := modelPod("p", func(p *corev1.Pod) {
		p.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = "large"
		p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
		p.Spec.Volumes = []corev1.Volume{{Name: "v"}}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady}, {Type: corev1.PodScheduled}}
	})
	got, err := trimPod(pod)
	if err != nil {
		t.Fatal(err)
	}
	p := got.(*corev1.Pod)
	if profileNameOf(p) != profileNameOf(pod) || len(p.Spec.Containers) != 1 || len(p.Status.Conditions) != 1 {
		t.Errorf("the trimmed pod lacks something: %+v", p)
	}
	if len(p.Annotations) != 2 || p.ManagedFields != nil || p.Spec.Volumes != nil {
		t.Errorf("the trimmed pod keeps too much: %+v", p)
	}
	plain, err := trimPod(modelPod("q", func(p *corev1.Pod) { p.Annotations = nil }))
	if err != nil || len(plain.(*corev1.Pod).Spec.Containers) != 0 {
		t.Errorf("a pod without a model keeps its containers (%v)", err)
	}
}
