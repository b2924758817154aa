// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/modelsource"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

const source = "hf://org/model"

type world struct {
	t        *testing.T
	client   client.Client
	clock    *clocktesting.FakePassiveClock
	recorder *events.FakeRecorder
	resolver *fakeResolver
	pods     *podReconciler
	profiles *profileReconciler
	peaks    *peakReconciler
	check    *checkReconciler
	health   *conditionReconciler
}

type fakeResolver struct {
	etag  string
	err   error
	calls int
	// during is called by each call.
	during func()
}

func (f *fakeResolver) Host(string) string { return "hub" }

func (f *fakeResolver) Resolve(context.Context, string) (*modelsource.Snapshot, error) {
	f.calls++
	if f.during != nil {
		f.during()
	}
	if f.err != nil {
		return nil, f.err
	}
	return &modelsource.Snapshot{
		Revision: "rev-" + f.etag, ETag: f.etag, Format: modelsource.FormatGGUF,
		Weights: []modelsource.File{memoryFile{modeltest.Tiny.GGUF()}},
	}, nil
}

// memoryFile is a file that is nowhere.
type memoryFile struct{ modeltest.File }

func (f memoryFile) Name() string { return "x.gguf" }

func (f memoryFile) Size() int64 { return f.File.Size }

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, gpunode.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	b := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&berthv1alpha1.ModelProfile{}, &gpunode.Object{})
	for name, extract := range podIndices {
		b = b.WithIndex(&corev1.Pod{}, name, extract)
	}
	b = b.WithIndex(&berthv1alpha1.ModelProfile{}, indexMadeFor, madeFor)
	w := &world{t: t, client: b.Build(), clock: clocktesting.NewFakePassiveClock(testTime), recorder: events.NewFakeRecorder(1000), resolver: &fakeResolver{etag: "v1"}}
	options := DefaultOptions()
	options.Clock = w.clock
	status := statusWriter{client: w.client, live: w.client}
	w.pods = &podReconciler{
		client: w.client, tell: newAnnouncer(w.recorder, w.clock), profilesPerNamespace: options.ProfilesPerNamespace,
	}
	w.profiles = &profileReconciler{
		client: w.client, status: status, resolver: w.resolver, clock: w.clock, options: options, turns: newTurns(options.Concurrency),
	}
	w.peaks = &peakReconciler{client: decoding{w.client}, status: status, clock: w.clock, ratios: ratios{}}
	w.check = &checkReconciler{client: decoding{w.client}, live: w.client, recorder: w.recorder, clock: w.clock, margin: options.OveruseMargin}
	w.health = &conditionReconciler{client: decoding{w.client}, live: w.client, clock: w.clock}
	return w
}

func (w *world) advance(d time.Duration) { w.clock.SetTime(w.clock.Now().Add(d)) }

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

// objectOf is a GPUNode as the controller's cache has it.
func objectOf(t *testing.T, gn *berthv1alpha1.GPUNode) *gpunode.Object {
	t.Helper()
	raw, err := json.Marshal(gn.Status)
	if err != nil {
		t.Fatal(err)
	}
	return &gpunode.Object{ObjectMeta: gn.ObjectMeta, Raw: raw}
}

// decoding is a client that reads GPUNodes as the cache does.
type decoding struct{ client.Client }

func (c decoding) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	err := c.Client.List(ctx, list, opts...)
	if nodes, ok := list.(*gpunode.List); ok {
		for i := range nodes.Items {
			nodes.Items[i].Decode()
		}
	}
	return err
}

func (c decoding) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if err := c.Client.Get(ctx, key, obj, opts...); err != nil {
		return err
	}
	trimmed, err := trimGPUNode(obj)
	if node, ok := obj.(*gpunode.Object); ok {
		*node = *trimmed.(*gpunode.Object)
	}
	return err
}
