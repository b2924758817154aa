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
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/modelsource"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

const source = "hf://org/model"

// world is a controller over a fake API server, with a clock that the test moves.
type world struct {
	t        *testing.T
	client   client.Client
	clock    *clocktesting.FakePassiveClock
	recorder *events.FakeRecorder
	resolver *fakeResolver
	pods     *podReconciler
	profiles *profileReconciler
	peaks    *peakReconciler
}

// fakeResolver answers with what the test sets.
type fakeResolver struct {
	etag  string
	err   error
	calls int
}

func (f *fakeResolver) Resolve(context.Context, string) (*modelsource.Snapshot, error) {
	f.calls++
	if f.err != nil {
		return nil, f.err
	}
	header, size := modeltest.Tiny.GGUF()
	return &modelsource.Snapshot{
		Revision: "rev-" + f.etag, ETag: f.etag, Format: modelsource.FormatGGUF,
		Weights: []modelsource.File{memoryFile{data: header, size: size}},
	}, nil
}

type memoryFile struct {
	data []byte
	size int64
}

func (f memoryFile) Name() string { return "x.gguf" }
func (f memoryFile) Size() int64  { return f.size }
func (f memoryFile) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(f.data)) {
		copy(p, f.data[off:])
	}
	return len(p), nil
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, berthv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	b := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&berthv1alpha1.ModelProfile{})
	for name, extract := range podIndices {
		b = b.WithIndex(&corev1.Pod{}, name, extract)
	}
	w := &world{t: t, client: b.Build(), clock: clocktesting.NewFakePassiveClock(testTime), recorder: events.NewFakeRecorder(1000), resolver: &fakeResolver{etag: "v1"}}
	options := DefaultOptions()
	options.Clock = w.clock
	status := statusWriter{client: w.client, live: w.client}
	w.pods = &podReconciler{client: w.client, tell: newAnnouncer(w.recorder, w.clock)}
	w.profiles = &profileReconciler{client: w.client, status: status, resolver: w.resolver, clock: w.clock, options: options}
	w.peaks = &peakReconciler{client: w.client, status: status, clock: w.clock, started: testTime}
	return w
}

func (w *world) advance(d time.Duration) { w.clock.SetTime(w.clock.Now().Add(d)) }

// pod reconciles a pod and returns what it was told since the last time.
func (w *world) pod(name string) []string {
	w.t.Helper()
	if _, err := w.pods.Reconcile(w.t.Context(), request("default", name)); err != nil {
		w.t.Fatal(err)
	}
	return w.told()
}

func (w *world) told() (out []string) {
	for {
		select {
		case e := <-w.recorder.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

// profile reconciles the profile of source and returns it, nil when it is gone, and when it is looked at again.
func (w *world) profile() (*berthv1alpha1.ModelProfile, time.Duration) {
	w.t.Helper()
	name := berthv1alpha1.ModelProfileName(source)
	result, err := w.profiles.Reconcile(w.t.Context(), request("", name))
	if err != nil {
		w.t.Fatal(err)
	}
	p := &berthv1alpha1.ModelProfile{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: name}, p); err != nil {
		if !apierrors.IsNotFound(err) {
			w.t.Fatal(err)
		}
		return nil, result.RequeueAfter
	}
	return p, result.RequeueAfter
}

func (w *world) delete(obj client.Object) {
	w.t.Helper()
	if err := w.client.Delete(w.t.Context(), obj); err != nil {
		w.t.Fatal(err)
	}
}

func request(namespace, name string) ctrl.Request {
	return ctrl.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

func modelPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID("uid-" + name),
			Annotations: map[string]string{berthv1alpha1.AnnotationModel: source, berthv1alpha1.AnnotationRuntime: "llama.cpp"},
		},
		Spec: corev1.PodSpec{SchedulerName: berthv1alpha1.SchedulerName, Containers: []corev1.Container{{Name: "server", Args: []string{"-c", "8192"}}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

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

func TestProfileOfAnotherModelUnderTheSameNameReleasesNobody(t *testing.T) {
	taken := &berthv1alpha1.ModelProfile{
		ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.ModelProfileName(source)},
		Spec:       berthv1alpha1.ModelProfileSpec{Source: "hf://org/other"},
	}
	w := newWorld(t, modelPod("p"), taken)
	w.profile()
	if told := w.pod("p"); len(told) != 1 || !strings.Contains(told[0], "hf://org/other") {
		t.Errorf("told %q, want the conflict", told)
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
	fold(&p.Status, &measurement{devices: []int64{gib}, booked: []int64{0}, isNew: true}, testTime)
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
	for _, tc := range []struct {
		name    string
		profile *berthv1alpha1.ModelProfile
		err     error
		after   time.Duration
		kept    bool
	}{
		{"a used one is kept while it may be used again", managed, nil, options.ProfileTTL - 2*time.Hour, true},
		{"a used one goes after its time", managed, nil, options.ProfileTTL + time.Hour, false},
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

func TestPeaksAreTakenFromReadyPodsWholly(t *testing.T) {
	running := func(p *corev1.Pod) {
		p.Spec.NodeName = "n1"
		p.Annotations[berthv1alpha1.AnnotationAllocation] = `{"version":1,"devices":[{"uuid":"GPU-a","memory":"1073741824"},{"uuid":"GPU-b","memory":"1073741824"}]}`
		p.Status.StartTime = &metav1.Time{Time: testTime}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testTime)}}
	}
	process := func(uid types.UID, memory string) berthv1alpha1.GPUProcess {
		return berthv1alpha1.GPUProcess{PodUID: uid, Memory: resource.MustParse(memory)}
	}
	report := func(a, b []berthv1alpha1.GPUProcess) *berthv1alpha1.GPUNode {
		return &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: berthv1alpha1.GPUNodeStatus{
			Devices: []berthv1alpha1.GPUDevice{{UUID: "GPU-a", Processes: a}, {UUID: "GPU-b", Processes: b}},
		}}
	}
	both := report(
		[]berthv1alpha1.GPUProcess{process("uid-p", "1Gi"), process("", "5Gi"), process("uid-other", "7Gi")},
		[]berthv1alpha1.GPUProcess{process("uid-p", "3Gi")})
	for _, tc := range []struct {
		name   string
		change func(*corev1.Pod)
		report *berthv1alpha1.GPUNode
		since  *metav1.Time
		want   []string
	}{
		{"a Ready pod on all its devices", nil, both, nil, []string{"llama.cpp [3Gi 1Gi] 1 2Gi"}},
		{"a pod that loads", func(p *corev1.Pod) { p.Status.Conditions = nil }, both, nil, nil},
		{"a pod that goes", func(p *corev1.Pod) {
			p.DeletionTimestamp = &metav1.Time{Time: testTime}
			p.Finalizers = []string{"x/y"}
		}, both, nil, nil},
		{"a pod that is measured on one of its devices", nil, report([]berthv1alpha1.GPUProcess{process("uid-p", "1Gi")}, nil), nil, nil},
		{"a pod without an allocation", func(p *corev1.Pod) { delete(p.Annotations, berthv1alpha1.AnnotationAllocation) }, both, nil, nil},
		{"a pod without a model", func(p *corev1.Pod) { delete(p.Annotations, berthv1alpha1.AnnotationModel) }, both, nil, nil},
		{"a pod that started before the model changed", nil, both, &metav1.Time{Time: testTime.Add(time.Hour)}, nil},
		{"a pod that started after the model changed", nil, both, &metav1.Time{Time: testTime.Add(-time.Hour)}, []string{"llama.cpp [3Gi 1Gi] 1 2Gi"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := modelPod("p", running)
			if tc.change != nil {
				tc.change(pod)
			}
			profile := &berthv1alpha1.ModelProfile{
				ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.ModelProfileName(source)},
				Spec:       berthv1alpha1.ModelProfileSpec{Source: source},
				Status:     berthv1alpha1.ModelProfileStatus{RevisionTime: tc.since},
			}
			w := newWorld(t, pod, profile, tc.report)
			for range 3 { // a report that comes again is not another sample
				if _, err := w.peaks.Reconcile(t.Context(), request("", "n1")); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(profile), profile); err != nil {
				t.Fatal(err)
			}
			if got := summary(&profile.Status); !slices.Equal(got, tc.want) {
				t.Errorf("peaks %q, want %q", got, tc.want)
			}
			if tc.want != nil && profile.Status.ObservedPeaks[0].Settings.ContextLength != 8192 {
				t.Errorf("settings %+v, want the context of the command line", profile.Status.ObservedPeaks[0].Settings)
			}
			w.delete(tc.report)
			if _, err := w.peaks.Reconcile(t.Context(), request("", "n1")); err != nil || len(w.peaks.measured) != 0 {
				t.Errorf("%v, %d nodes are remembered that are gone", err, len(w.peaks.measured))
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
