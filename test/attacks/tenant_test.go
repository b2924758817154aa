// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/test/integration/harness"
)

const onlyTheScheduler = "only the scheduler's account writes the allocation of a pod"

// writesAllocations tries what TestOnlyTheSchedulerWritesAllocations does not: labels, and other kinds of writes.
func (r *room) writesAllocations(t *testing.T) {
	pods := r.mallory.CoreV1().Pods(tenant)
	for name, change := range map[string]func(*corev1.Pod){
		"as one that is allocated":     func(p *corev1.Pod) { p.Labels = map[string]string{berthv1alpha1.LabelAllocated: "true"} },
		"as allocated, and by nothing": func(p *corev1.Pod) { p.Labels = map[string]string{berthv1alpha1.LabelAllocated: ""} },
		"as one that waits, without a request": func(p *corev1.Pod) {
			p.Labels, p.Annotations = map[string]string{berthv1alpha1.LabelAllocated: "false"}, nil
		},
	} {
		_, err := pods.Create(t.Context(), r.pod("born", "", change), dryRun)
		wantRefused(t, "a pod made "+name, err, onlyTheScheduler)
	}

	const forged = `"berth.dev/gpu-uuids":"GPU-gpu-1-a","berth.dev/visible-devices":"all","berth.dev/allocation":"{}"`
	patch := func(kind types.PatchType, text string, subresources ...string) func(context.Context, string) error {
		return func(ctx context.Context, pod string) error {
			options := metav1.PatchOptions{}
			if kind == types.ApplyPatchType {
				options = metav1.PatchOptions{FieldManager: "mallory", Force: new(true)}
				text = fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"annotations":{%s}}}`, pod, forged)
			}
			_, err := pods.Patch(ctx, pod, kind, []byte(text), options, subresources...)
			return err
		}
	}
	update := func(change func(*corev1.Pod), write func(context.Context, *corev1.Pod, metav1.UpdateOptions) (*corev1.Pod, error)) func(context.Context, string) error {
		return func(ctx context.Context, name string) error {
			return retry.RetryOnConflict(retry.DefaultRetry, func() error { // the scheduler writes too
				pod, err := pods.Get(ctx, name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				change(pod)
				_, err = write(ctx, pod, metav1.UpdateOptions{})
				return err
			})
		}
	}
	forge := func(p *corev1.Pod) { p.Annotations[berthv1alpha1.AnnotationGPUUUIDs] = "GPU-gpu-1-a" }
	strip := func(p *corev1.Pod) {
		p.Labels = nil
		delete(p.Annotations, berthv1alpha1.AnnotationAllocation)
	}
	writes := map[string]func(context.Context, string) error{
		"by a merge patch":                  patch(types.MergePatchType, `{"metadata":{"annotations":{`+forged+`}}}`),
		"by a merge patch of the status":    patch(types.MergePatchType, `{"metadata":{"annotations":{`+forged+`}}}`, "status"),
		"by a JSON patch":                   patch(types.JSONPatchType, `[{"op":"add","path":"/metadata/annotations/berth.dev~1gpu-uuids","value":"all"}]`),
		"by an apply":                       patch(types.ApplyPatchType, ""),
		"by an apply of the status":         patch(types.ApplyPatchType, "", "status"),
		"by an update":                      update(forge, pods.Update),
		"by an update of the status":        update(forge, pods.UpdateStatus),
		"away by an update":                 update(strip, pods.Update),
		"away by an update of the status":   update(strip, pods.UpdateStatus),
		"and the label away":                patch(types.MergePatchType, `{"metadata":{"labels":{"berth.dev/allocated":null}}}`),
		"and the label to something else":   patch(types.MergePatchType, `{"metadata":{"labels":{"berth.dev/allocated":"no"}}}`),
		"and all labels away":               patch(types.MergePatchType, `{"metadata":{"labels":null}}`),
		"and the label, through the status": patch(types.MergePatchType, `{"metadata":{"labels":{"berth.dev/allocated":null}}}`, "status"),
	}
	ofBound := map[string]func(context.Context, string) error{
		"away by a JSON patch":        patch(types.JSONPatchType, `[{"op":"remove","path":"/metadata/annotations/berth.dev~1allocation"}]`),
		"all away by a JSON patch":    patch(types.JSONPatchType, `[{"op":"remove","path":"/metadata/annotations/berth.dev~1gpu-uuids"},{"op":"remove","path":"/metadata/annotations/berth.dev~1allocation"}]`),
		"and the label back to false": patch(types.MergePatchType, `{"metadata":{"labels":{"berth.dev/allocated":"false"}}}`),
	}
	// The handlers of these drop the metadata of what they are sent, so that an answer of success would be right.
	withoutEffect := map[string]func(context.Context, string) error{
		"by a debugging container": patch(types.StrategicMergePatchType, `{"metadata":{"annotations":{`+forged+`}}}`, "ephemeralcontainers"),
		"by a resize":              patch(types.StrategicMergePatchType, `{"metadata":{"annotations":{`+forged+`}}}`, "resize"),
	}
	bound := r.placed(t, r.pod("bound", attacked))
	waits := harness.Create(t, r.Lab, r.pod("waits", "nowhere"))
	r.removeAfter(t, waits)
	for _, pod := range []*corev1.Pod{waits, bound} {
		before := r.Pod(t, pod)
		for name, write := range writes {
			wantRefused(t, pod.Name+": an allocation "+name, write(t.Context(), pod.Name), onlyTheScheduler)
		}
		if pod == bound {
			for name, write := range ofBound {
				wantRefused(t, pod.Name+": the allocation "+name, write(t.Context(), pod.Name), onlyTheScheduler)
			}
		}
		for _, write := range withoutEffect {
			_ = write(t.Context(), pod.Name)
		}
		after := r.Pod(t, pod)
		if diff := cmp.Diff([]any{before.Annotations, before.Labels}, []any{after.Annotations, after.Labels}); diff != "" {
			t.Errorf("%s changed (-before +after):\n%s", pod.Name, diff)
		}
	}
}

// writesTemplates: nobody judges templates, so that the pods made of them are.
func (r *room) writesTemplates(t *testing.T) {
	labels := map[string]string{"app": "forged"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: r.pod("x", honest).Spec}
	template.Annotations = map[string]string{berthv1alpha1.AnnotationGPUMemory: "1Gi", berthv1alpha1.AnnotationGPUUUIDs: "GPU-gpu-1-a"}
	selector := &metav1.LabelSelector{MatchLabels: labels}
	named := metav1.ObjectMeta{Namespace: tenant, Name: "forged"}
	job := batchv1.JobSpec{Template: *template.DeepCopy()}
	job.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	objects := map[string]client.Object{
		"ReplicaSet":  &appsv1.Deployment{ObjectMeta: named, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}},
		"StatefulSet": &appsv1.StatefulSet{ObjectMeta: named, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}},
		"DaemonSet":   &appsv1.DaemonSet{ObjectMeta: named, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}},
		"Job":         &batchv1.Job{ObjectMeta: named, Spec: job},
	}
	asMallory, err := client.New(r.mallory.config, client.Options{Scheme: r.Client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if err := asMallory.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			background := client.PropagationPolicy(metav1.DeletePropagationBackground)
			if err := r.Client.Delete(context.WithoutCancel(t.Context()), object, background); err != nil {
				t.Error(err)
			}
		})
	}
	told := map[string]bool{}
	harness.Eventually(t, "the owner of each template is told that its pods are refused", func(ctx context.Context) (bool, string) {
		events, err := r.mallory.CoreV1().Events(tenant).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err.Error()
		}
		for _, e := range events.Items {
			if objects[e.InvolvedObject.Kind] != nil && e.Reason == "FailedCreate" && strings.Contains(e.Message, onlyTheScheduler) {
				told[e.InvolvedObject.Kind] = true
			}
		}
		return len(told) == len(objects), fmt.Sprint(told)
	})
	pods, err := r.mallory.CoreV1().Pods(tenant).List(t.Context(), metav1.ListOptions{LabelSelector: "app=forged"})
	if err != nil || len(pods.Items) > 0 {
		t.Errorf("%d pods were made (error %v)", len(pods.Items), err)
	}
}

// writesMuch: what is refused is refused in a message that people can read, and what is admitted harms nobody.
func (r *room) writesMuch(t *testing.T) {
	pods := r.mallory.CoreV1().Pods(tenant)
	long := strings.Repeat("x\n", 100<<10)
	for _, key := range []string{
		berthv1alpha1.AnnotationGPUMemory, berthv1alpha1.AnnotationModel, berthv1alpha1.AnnotationRuntime, berthv1alpha1.AnnotationContextLength,
		berthv1alpha1.AnnotationParallel, berthv1alpha1.AnnotationKVCacheType, berthv1alpha1.AnnotationIdleAfter, berthv1alpha1.AnnotationMinRuntime,
	} {
		_, err := pods.Create(t.Context(), r.pod("long", "", func(p *corev1.Pod) { p.Annotations[key] = long }), dryRun)
		wantRefused(t, "200 KiB in "+key, err, key)
		if err != nil && (len(err.Error()) > 2000 || strings.Contains(err.Error(), "x\nx")) {
			t.Errorf("200 KiB in %s: a message of %d bytes, or of many lines: %.300q", key, len(err.Error()), err)
		}
	}
	foreign := func(n int, key string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			for i := range n {
				p.Annotations[fmt.Sprintf(key, i)] = ""
			}
		}
	}
	manyVariables := func(p *corev1.Pod) {
		for i := range 5000 {
			p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: "all"})
		}
	}
	plain := func(p *corev1.Pod) {
		p.Annotations, p.Spec.SchedulerName = map[string]string{}, corev1.DefaultSchedulerName
	}
	for _, tc := range []struct {
		name    string
		changes []func(*corev1.Pod)
		// admitted says that the pod is no business of Berth's, however large it is.
		admitted bool
	}{
		{"3000 unknown keys", []func(*corev1.Pod){foreign(3000, "berth.dev/%d")}, false},
		{"5000 foreign annotations beside a request", []func(*corev1.Pod){foreign(5000, "a/%d")}, true},
		{"5000 annotations of a pod of another scheduler", []func(*corev1.Pod){plain, foreign(5000, "a/%d")}, true},
		{"5000 variables beside a request", []func(*corev1.Pod){manyVariables}, true},
		{"5000 variables of a pod of another scheduler", []func(*corev1.Pod){plain, manyVariables}, true},
	} {
		pod, err := pods.Create(t.Context(), r.pod("large", "", tc.changes...), dryRun)
		if tc.admitted && err != nil {
			t.Errorf("%s: %.500v", tc.name, err)
		}
		if !tc.admitted {
			wantRefused(t, tc.name, err, "unknown annotation")
		}
		if err == nil && pod.Spec.SchedulerName == berthv1alpha1.SchedulerName && sees(pod.Spec.Containers[0].Env) != itsAllocation {
			t.Errorf("%s: the container does not see its GPUs", tc.name)
		}
	}
}

// writesTwice: all who judge a pod read the same of two values for one key.
func (r *room) writesTwice(t *testing.T) {
	for _, tc := range []struct{ first, last, refused string }{{"1Gi", "30", "did you mean 30Gi?"}, {"30", "1Gi", ""}} {
		pod, err := json.Marshal(r.pod("twice", "", func(p *corev1.Pod) { p.Annotations = map[string]string{"KEY": "VALUE"} }))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(pod), `"KEY":"VALUE"`, fmt.Sprintf(`"berth.dev/gpu-memory":%q,"berth.dev/gpu-memory":%q`, tc.first, tc.last), 1)
		got := &corev1.Pod{}
		err = r.mallory.CoreV1().RESTClient().Post().Namespace(tenant).Resource("pods").Param("dryRun", metav1.DryRunAll).
			SetHeader("Content-Type", "application/json").Body([]byte(text)).Do(t.Context()).Into(got)
		if tc.refused != "" {
			wantRefused(t, tc.first+", then "+tc.last, err, tc.refused)
		} else if err != nil || got.Annotations[berthv1alpha1.AnnotationGPUMemory] != tc.last {
			t.Errorf("%s, then %s: %v, %v", tc.first, tc.last, got.Annotations, err)
		}
	}
}

// reachesOut tries what a tenant and nobody have no role for.
func (r *room) reachesOut(t *testing.T) {
	for who, p := range map[string]party{"the tenant": r.mallory, "nobody": r.nobody} {
		patch := []byte(`{"metadata":{"labels":{"a":"b"}}}`)
		berth := p.CoreV1().Pods(berthv1alpha1.Namespace)
		for what, try := range map[string]func(context.Context) error{
			"reads Secrets of Berth": func(ctx context.Context) error {
				_, err := p.CoreV1().Secrets(berthv1alpha1.Namespace).List(ctx, metav1.ListOptions{})
				return err
			},
			"reads pods of others": func(ctx context.Context) error {
				_, err := p.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
				return err
			},
			"runs a pod of Berth": func(ctx context.Context) error {
				_, err := berth.Create(ctx, r.pod("x", "", func(p *corev1.Pod) { p.Namespace = berthv1alpha1.Namespace }), dryRun)
				return err
			},
			"writes a report": func(ctx context.Context) error {
				_, err := p.reports().Patch(ctx, honest, types.MergePatchType, []byte(`{"status":{"devices":[]}}`), metav1.PatchOptions{}, "status")
				return err
			},
			"takes the leadership": func(ctx context.Context) error {
				_, err := p.CoordinationV1().Leases(berthv1alpha1.Namespace).Patch(ctx, "berth-scheduler", types.MergePatchType, patch, metav1.PatchOptions{})
				return err
			},
			"asks for the scheduler's token": func(ctx context.Context) error {
				_, err := p.CoreV1().ServiceAccounts(berthv1alpha1.Namespace).CreateToken(ctx, "berth-scheduler", tokenRequest(), metav1.CreateOptions{})
				return err
			},
			"changes a policy": func(ctx context.Context) error {
				_, err := p.AdmissionregistrationV1().ValidatingAdmissionPolicies().Patch(ctx, "berth-allocation", types.MergePatchType, patch, metav1.PatchOptions{})
				return err
			},
			"writes a profile": func(ctx context.Context) error { return r.writeProfile(ctx, p) },
			"ends a term": func(ctx context.Context) error {
				return p.object("leaderterms").Delete(ctx, berthv1alpha1.LeaderTermName, metav1.DeleteOptions{})
			},
		} {
			wantRefused(t, who+" "+what, try(t.Context()), "")
		}
	}
}
