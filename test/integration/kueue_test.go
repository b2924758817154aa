// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

const queueName = "kueue.x-k8s.io/queue-name"

const kueueQueues = `
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata: {name: default}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: gpus}
spec:
  namespaceSelector: {}
  resourceGroups:
  - coveredResources: [berth.dev/gpu-memory]
    flavors:
    - name: default
      resources:
      - {name: berth.dev/gpu-memory, nominalQuota: 60Gi}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {name: gpus, namespace: default}
spec: {clusterQueue: gpus}
`

// startKueue runs the real Kueue beside a lab, for Jobs and pods, with its webhooks.
func startKueue(t *testing.T, lab *harness.Lab, program, source string) {
	t.Helper()
	components := filepath.Join(source, "config/components")
	applyFiles(t, lab, filepath.Join(components, "crd/bases/*.yaml"))
	harness.Create(t, lab, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kueue-system"}})
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.ParseIP("127.0.0.1")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), freePort(t)
	config := `
apiVersion: config.kueue.x-k8s.io/v1beta2
kind: Configuration
health: {healthProbeBindAddress: "127.0.0.1:0"}
metrics: {bindAddress: "0"}
webhook: {host: 127.0.0.1, port: ` + port + `, certDir: ` + dir + `}
leaderElection: {leaderElect: false}
internalCertManagement: {enable: false}
integrations: {frameworks: [batch/job, pod]}
`
	for name, text := range map[string][]byte{"tls.crt": crt, "tls.key": key, "config.yaml": []byte(config)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, "Kueue's objects are served", func(context.Context) (bool, string) {
		served, err := lab.Clientset.Discovery().ServerResourcesForGroupVersion("kueue.x-k8s.io/v1beta2")
		if err != nil {
			return false, err.Error()
		}
		is := func(r metav1.APIResource) bool { return r.Name == "workloads" }
		return slices.ContainsFunc(served.APIResources, is), fmt.Sprint(len(served.APIResources), " resources")
	})
	// Where it manages no certificates itself, it reads those of its metrics from a fixed folder: it gets a folder /etc of its own.
	runBeside(t, []string{"KUBECONFIG=" + lab.Kubeconfig}, "unshare", "--user", "--map-root-user", "--mount", "sh", "-ec",
		`mount -t tmpfs none /etc; mkdir -p /etc/kueue/metrics/certs; cp "$1"/tls.* /etc/kueue/metrics/certs; exec "$2" --config="$1/config.yaml" --feature-gates=VisibilityOnDemand=false`,
		"sh", dir, program)
	harness.Eventually(t, "Kueue's webhooks answer", func(ctx context.Context) (bool, string) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
		if err != nil {
			return false, err.Error()
		}
		return c.Close() == nil, ""
	})
	text, err := os.ReadFile(filepath.Join(components, "webhook/manifests.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// Those of kinds that the lab has, by an address instead of a Service.
	isServed := func(rules []admissionv1.RuleWithOperations) bool {
		return slices.ContainsFunc(rules, func(r admissionv1.RuleWithOperations) bool {
			return slices.ContainsFunc(r.APIGroups, func(g string) bool { return g == "" || g == "batch" || g == "kueue.x-k8s.io" })
		})
	}
	reach := func(c *admissionv1.WebhookClientConfig) {
		url := "https://127.0.0.1:" + port + *c.Service.Path
		c.URL, c.Service, c.CABundle = &url, nil, crt
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		mutating, validating := &admissionv1.MutatingWebhookConfiguration{}, &admissionv1.ValidatingWebhookConfiguration{}
		if strings.Contains(document, "kind: MutatingWebhookConfiguration") {
			if err := yaml.Unmarshal([]byte(document), mutating); err != nil {
				t.Fatal(err)
			}
			mutating.Webhooks = slices.DeleteFunc(mutating.Webhooks, func(w admissionv1.MutatingWebhook) bool { return !isServed(w.Rules) })
			for i := range mutating.Webhooks {
				reach(&mutating.Webhooks[i].ClientConfig)
			}
			harness.Create(t, lab, mutating)
			continue
		}
		if err := yaml.Unmarshal([]byte(document), validating); err != nil {
			t.Fatal(err)
		}
		validating.Webhooks = slices.DeleteFunc(validating.Webhooks, func(w admissionv1.ValidatingWebhook) bool { return !isServed(w.Rules) })
		for i := range validating.Webhooks {
			reach(&validating.Webhooks[i].ClientConfig)
		}
		harness.Create(t, lab, validating)
	}
	applyAll(t, lab, []byte(kueueQueues))
}

// TestKueueCountsGPUMemory admits Jobs and pods up to the quota of a ClusterQueue, and Berth places those that it admits: a Job
// is counted by the resource in its template, a pod by that which admission made of its annotation.
func TestKueueCountsGPUMemory(t *testing.T) {
	program, source := os.Getenv(envKueue), os.Getenv(envKueueSource)
	if program == "" {
		t.Skip("needs Kueue: make test-kueue")
	}
	lab := harness.Start(t, "--nodes", "1", "--gpus", "2", "--gpu-memory-resource")
	startKueue(t, lab, program, source)
	job := func(name string) *batchv1.Job {
		pod := unreferenced(name, func(p *bt.Pod) { p.Annotations = nil })
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: resource.MustParse("50Gi")}
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: bt.Namespace, Labels: map[string]string{queueName: "gpus"}}}
		job.Spec.Template.Spec = pod.Spec
		return harness.Create(t, lab, job)
	}
	suspended := func(name string) bool {
		got := &batchv1.Job{}
		if err := lab.Client.Get(t.Context(), client.ObjectKey{Namespace: bt.Namespace, Name: name}, got); err != nil {
			t.Fatal(err)
		}
		return got.Spec.Suspend != nil && *got.Spec.Suspend
	}
	runs := func(name string) {
		t.Helper()
		harness.Eventually(t, "the pod of Job "+name+" is bound with an allocation", func(ctx context.Context) (bool, string) {
			pods := &corev1.PodList{}
			if err := lab.Client.List(ctx, pods, client.MatchingLabels{"batch.kubernetes.io/job-name": name}); err != nil {
				return false, err.Error()
			}
			return len(pods.Items) == 1 && pods.Items[0].Annotations[berthv1alpha1.AnnotationAllocation] != "", fmt.Sprint(len(pods.Items), " pods")
		})
	}
	first := job("first")
	runs("first")
	job("second")
	gated := func(pod *corev1.Pod) bool { return len(lab.Pod(t, pod).Spec.SchedulingGates) > 0 }
	queued := func(name string) *corev1.Pod {
		return harness.Create(t, lab, unreferenced(name, func(p *bt.Pod) { p.Memory("8Gi").Labels = map[string]string{queueName: "gpus"} }))
	}
	small := queued("small")
	if bound, allocation := lab.WaitBound(t, small); allocation == nil {
		t.Errorf("it is bound to %s without an allocation", bound.Spec.NodeName)
	}
	tooMuch := queued("too-much") // 50 + 8 + 8 > 60
	harness.Eventually(t, "Kueue refuses Job second and pod too-much", func(ctx context.Context) (bool, string) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: "kueue.x-k8s.io", Version: "v1beta2", Kind: "WorkloadList"})
		if err := lab.Client.List(ctx, list); err != nil {
			return false, err.Error()
		}
		refused := 0
		for i := range list.Items {
			conditions, _, _ := unstructured.NestedSlice(list.Items[i].Object, "status", "conditions")
			if slices.ContainsFunc(conditions, func(c any) bool {
				m, _ := c.(map[string]any)
				return m["type"] == "QuotaReserved" && m["status"] == "False" && strings.Contains(fmt.Sprint(m["message"]), "insufficient unused quota for berth.dev/gpu-memory")
			}) {
				refused++
			}
		}
		return refused == 2, fmt.Sprint(refused, " of ", len(list.Items))
	})
	if !suspended("second") || !gated(tooMuch) {
		t.Errorf("Job second is suspended: %v; pod too-much is gated: %v", suspended("second"), gated(tooMuch))
	}
	// The first Job comes to its end, and makes room.
	pods := &corev1.PodList{}
	if err := lab.Client.List(t.Context(), pods, client.MatchingLabels{"batch.kubernetes.io/job-name": first.Name}); err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods of Job first: %v", len(pods.Items), err)
	}
	done := client.RawPatch(types.MergePatchType, []byte(`{"status": {"phase": "Succeeded"}}`))
	if err := lab.Client.Status().Patch(t.Context(), &pods.Items[0], done); err != nil {
		t.Fatal(err)
	}
	runs("second")
}
