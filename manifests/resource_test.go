// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/podcases"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// withResource puts the policies of the component gpu-memory-resource into force, and takes them away again: other tests
// here compare pods with what the other policies make of them.
func (c *testCluster) withResource(t *testing.T) {
	t.Helper()
	inForce := func(ctx context.Context) (mutating, validating bool) {
		pod, err := c.admin.CoreV1().Pods(metav1.NamespaceDefault).Create(ctx, requestingPod("probe"), dryRun)
		return err == nil && berthv1alpha1.AsksByResource(pod), len(c.warnings(ctx, t, queuedJob())) > 0
	}
	t.Cleanup(func() {
		err := wait.PollUntilContextTimeout(context.Background(), 50*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
			mutating, validating := inForce(ctx)
			return !mutating && !validating, nil
		})
		if err != nil {
			t.Errorf("the policies stay in force: %v", err)
		}
	})
	for _, file := range []string{"mutating.yaml", "validating.yaml"} {
		text, err := os.ReadFile("components/gpu-memory-resource/" + file)
		if err != nil {
			t.Fatal(err)
		}
		c.with(t, text)
	}
	eventually(t, "the policies are in force", func(ctx context.Context) (bool, error) {
		mutating, validating := inForce(ctx)
		return mutating && validating, nil
	})
}

// TestResourceIsAddedToEveryCase: what is accepted without the policies is with them, and asks for the same; the container
// that the GPUs are for asks for the smallest total by the resource.
func TestResourceIsAddedToEveryCase(t *testing.T) {
	c := needCluster(t)
	c.withResource(t)
	added := 0
	for _, tc := range podcases.All() {
		if tc.Refused != "" && !strings.HasPrefix(tc.Name, "a resource") && !strings.HasPrefix(tc.Name, "gpu-memory") {
			continue // they have nothing to do with it, and each takes its time
		}
		t.Run(tc.Name, func(t *testing.T) {
			pod, err := c.admin.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), tc.Pod, dryRun)
			if tc.Refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.Refused) || strings.Contains(err.Error(), "resulted in error") {
					t.Errorf("%v, want a refusal with %q", err, tc.Refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := berthv1alpha1.ParsePodRequest(pod)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.Want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			var want int64
			if got != nil && got.TotalMemory != nil {
				want = slices.Min(slices.Collect(maps.Values(got.TotalMemory)))
				added++
			}
			if asked := cycle.AskedOf(pod); asked != want {
				t.Errorf("it asks for %d bytes, want %d", asked, want)
			}
			names, err := berthv1alpha1.GPUContainers(pod)
			for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
				limit, request := container.Resources.Limits[berthv1alpha1.ResourceGPUMemory], container.Resources.Requests[berthv1alpha1.ResourceGPUMemory]
				wants := int64(0)
				if want > 0 && err == nil && container.Name == names[0] {
					wants = want
				}
				if limit.Value() != wants || request.Value() != wants {
					t.Errorf("container %s has limit %s and request %s, want %d", container.Name, &limit, &request, wants)
				}
			}
		})
	}
	if added < 30 {
		t.Errorf("only %d pods got the resource", added)
	}
}

// TestResourceStaysBesideOthers: what the container asks for beside it stays.
func TestResourceStaysBesideOthers(t *testing.T) {
	c := needCluster(t)
	c.withResource(t)
	pod := requestingPod("beside")
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("2")}
	got, err := c.admin.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), pod, dryRun)
	if err != nil {
		t.Fatal(err)
	}
	want := corev1.ResourceList{"cpu": resource.MustParse("2"), berthv1alpha1.ResourceGPUMemory: resource.MustParse("30Gi")}
	if diff := cmp.Diff(corev1.ResourceRequirements{Limits: want, Requests: want}, got.Spec.Containers[0].Resources); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

// TestKubeletsKeepTheResource: one that registers while its folder of device plugins is empty sets every extended resource to
// zero, and would then refuse the pods that are there.
func TestKubeletsKeepTheResource(t *testing.T) {
	c := needCluster(t)
	c.withResource(t)
	const name = "resource-node"
	nodes := c.admin.CoreV1().Nodes()
	if _, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nodes.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	config := c.controlPlane.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:node:" + name, Groups: []string{"system:nodes", "system:masters"}}
	kubelet, controller := kubernetes.NewForConfigOrDie(config), c.as(controllerUser, nil)
	const key = "berth.dev/gpu-memory"
	for _, step := range []struct {
		name   string
		as     kubernetes.Interface
		status string
		want   string // of capacity and allocatable
	}{
		{"a kubelet writes what there is", kubelet, `{"capacity":{"cpu":"8","example.com/x":"2"},"allocatable":{"cpu":"8","example.com/x":"2"}}`, " "},
		{"the controller advertises", controller, `{"capacity":{"` + key + `":"80Gi"},"allocatable":{"` + key + `":"80Gi"}}`, "80Gi 80Gi"},
		{"a kubelet starts anew", kubelet, `{"capacity":{"example.com/x":"0","` + key + `":"0"},"allocatable":{"example.com/x":"0","` + key + `":"0"}}`, "80Gi 80Gi"},
		{"a kubelet removes it", kubelet, `{"capacity":{"` + key + `":null},"allocatable":{"` + key + `":null}}`, "80Gi 80Gi"},
		{"a kubelet changes what can be allocated", kubelet, `{"allocatable":{"` + key + `":"1Gi"}}`, "80Gi 80Gi"},
		{"the controller advertises less", controller, `{"capacity":{"` + key + `":"40Gi"},"allocatable":{"` + key + `":"40Gi"}}`, "40Gi 40Gi"},
		{"the controller takes it away", controller, `{"capacity":{"` + key + `":null},"allocatable":{"` + key + `":null}}`, " "},
	} {
		node, err := step.as.CoreV1().Nodes().Patch(t.Context(), name, types.StrategicMergePatchType, []byte(`{"status":`+step.status+`}`), metav1.PatchOptions{}, "status")
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		show := func(list corev1.ResourceList) string {
			if q, ok := list[key]; ok {
				return q.String()
			}
			return ""
		}
		if got := show(node.Status.Capacity) + " " + show(node.Status.Allocatable); got != step.want {
			t.Errorf("%s: the node lists %q, want %q", step.name, got, step.want)
		}
		if x := node.Status.Capacity["example.com/x"]; strings.HasSuffix(step.name, "anew") && !x.IsZero() {
			t.Errorf("another resource stays %s", x.String())
		}
	}
}

// TestQuotaOfGPUMemory makes pods until a real quota refuses.
func TestQuotaOfGPUMemory(t *testing.T) {
	c := needCluster(t)
	c.withResource(t)
	c.tenant(t, "counted", nil)
	c.tenant(t, "uncounted", nil)
	quotas := c.admin.CoreV1().ResourceQuotas("counted")
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "gpus"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"requests.berth.dev/gpu-memory": resource.MustParse("100Gi")}},
	}
	if _, err := quotas.Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	used := func(ctx context.Context) string {
		quota, err := quotas.Get(ctx, "gpus", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		q := quota.Status.Used["requests.berth.dev/gpu-memory"]
		return q.String()
	}
	eventually(t, "the quota is counted", func(ctx context.Context) (bool, error) {
		pod := requestingPod("far-too-much")
		pod.Annotations[berthv1alpha1.AnnotationGPUMemory] = "1000Gi"
		_, err := c.admin.CoreV1().Pods("counted").Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil && strings.Contains(err.Error(), "exceeded quota") {
			return true, nil
		}
		return false, err
	})
	model := func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{berthv1alpha1.AnnotationModel: "ollama://llama3"}
	}
	byResource := func(quantity string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Annotations = nil
			pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: resource.MustParse(quantity)}
		}
	}
	for _, tc := range []struct {
		name, namespace string
		change          func(*corev1.Pod)
		refused, used   string
	}{
		{"annotated", "counted", func(*corev1.Pod) {}, "", "30Gi"},
		{"two-totals", "counted", func(pod *corev1.Pod) { pod.Annotations[berthv1alpha1.AnnotationGPUMemory] = "1=34Gi,2=32Gi" }, "", "62Gi"},
		{"by-resource", "counted", byResource("30Gi"), "", "92Gi"},
		{"too-much", "counted", func(*corev1.Pod) {}, "exceeded quota: gpus, requested: requests.berth.dev/gpu-memory=30Gi", "92Gi"},
		{"too-much-by-resource", "counted", byResource("10Gi"), "exceeded quota: gpus", "92Gi"},
		{"model-only", "counted", model, "the quota gpus of the namespace counts GPU memory, and what a model needs is not known", "92Gi"},
		{"model-and-memory", "counted", func(pod *corev1.Pod) { model(pod); pod.Annotations[berthv1alpha1.AnnotationGPUMemory] = "8Gi" }, "", "100Gi"},
		{"no-gpu", "counted", func(pod *corev1.Pod) { pod.Annotations = nil }, "", "100Gi"},
		{"model-only", "uncounted", model, "", "100Gi"},
	} {
		pod := requestingPod(tc.name)
		tc.change(pod)
		_, err := c.as(adminUser, nil).CoreV1().Pods(tc.namespace).Create(t.Context(), pod, metav1.CreateOptions{})
		check(t, tc.name, err, tc.refused == "")
		if err != nil && !strings.Contains(err.Error(), tc.refused) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.refused)
		}
		if got := used(t.Context()); got != tc.used {
			t.Errorf("%s: the quota counts %s, want %s", tc.name, got, tc.used)
		}
	}
}

// heard collects what the apiserver warns of.
type heard struct {
	mu    sync.Mutex
	texts []string
}

func (h *heard) HandleWarningHeader(_ int, _ string, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.texts = append(h.texts, text)
}

// queuedJob is a Job for Kueue whose pods ask by the annotation.
func queuedJob() *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job", Labels: map[string]string{"kueue.x-k8s.io/queue-name": "q"}}}
	pod := requestingPod("job")
	job.Spec.Template.Annotations, job.Spec.Template.Spec = pod.Annotations, pod.Spec
	job.Spec.Template.Spec.RestartPolicy, job.Spec.Suspend = corev1.RestartPolicyNever, ptr.To(true)
	return job
}

// warnings returns what the apiserver warns of that is asked to make a Job.
func (c *testCluster) warnings(ctx context.Context, t *testing.T, job *batchv1.Job) []string {
	t.Helper()
	h := &heard{}
	config := c.controlPlane.Config()
	config.WarningHandler = h
	if _, err := kubernetes.NewForConfigOrDie(config).BatchV1().Jobs(metav1.NamespaceDefault).Create(ctx, job, dryRun); err != nil {
		t.Fatal(err)
	}
	return h.texts
}

// TestQueuedJobsAreWarned: Kueue counts what the template asks for.
func TestQueuedJobsAreWarned(t *testing.T) {
	c := needCluster(t)
	c.withResource(t)
	for _, tc := range []struct {
		name   string
		change func(*batchv1.Job)
		warned bool
	}{
		{"by an annotation", func(*batchv1.Job) {}, true},
		{"by a model", func(job *batchv1.Job) {
			job.Spec.Template.Annotations = map[string]string{berthv1alpha1.AnnotationModel: "ollama://llama3"}
		}, true},
		{"by the resource too", func(job *batchv1.Job) {
			job.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: resource.MustParse("30Gi")}
		}, false},
		{"not queued", func(job *batchv1.Job) { job.Labels = nil }, false},
		{"no GPU memory", func(job *batchv1.Job) { job.Spec.Template.Annotations = nil }, false},
		{"of another scheduler", func(job *batchv1.Job) { job.Spec.Template.Spec.SchedulerName = "default-scheduler" }, false},
	} {
		job := queuedJob()
		tc.change(job)
		texts := c.warnings(t.Context(), t, job)
		warned := slices.ContainsFunc(texts, func(s string) bool {
			return strings.Contains(s, "write resources.limits berth.dev/gpu-memory: 30Gi on the container")
		})
		if warned != tc.warned {
			t.Errorf("%s: warnings %q, want one: %v", tc.name, texts, tc.warned)
		}
	}
}
