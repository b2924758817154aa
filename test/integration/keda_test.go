// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/lab/gpusim"
	"github.com/berth-dev/berth/test/integration/harness"
)

// Set by "make test-keda": the programs, and the folder of KEDA's module.
const envKEDA, envKEDASource, envKubeStateMetrics = "KEDA", "KEDA_SOURCE", "KUBE_STATE_METRICS"

// startKEDA runs KEDA's real operator beside a lab, without its webhooks and its adapter for HorizontalPodAutoscalers.
func startKEDA(t *testing.T, lab *harness.Lab, program, source string) {
	t.Helper()
	applyFiles(t, lab, filepath.Join(source, "config/crd/bases/*.yaml"))
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.ParseIP("127.0.0.1")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{"tls.crt": crt, "ca.crt": crt, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runBeside(t, []string{"KUBECONFIG=" + lab.Kubeconfig, "KEDA_CLUSTER_OBJECT_NAMESPACE=" + bt.Namespace, "WATCH_NAMESPACE="}, program,
		"--cert-dir", dir, "--metrics-bind-address", "0", "--health-probe-bind-address", "0",
		"--metrics-service-bind-address", "127.0.0.1:"+freePort(t), "--zap-log-level", "debug")
}

// TestScaleToZero follows docs/scale-to-zero.md with the real KEDA, kube-state-metrics and Prometheus: an idle model is scaled to
// zero and woken, and one whose activity is not measured stays. Then kube-state-metrics is away: nothing is scaled until it is back.
func TestScaleToZero(t *testing.T) {
	program, source, states := os.Getenv(envKEDA), os.Getenv(envKEDASource), os.Getenv(envKubeStateMetrics)
	if program == "" || states == "" {
		t.Skip("needs KEDA: make test-keda")
	}
	port := freePort(t)
	lab := harness.Start(t, "--nodes", "1", "--gpus", "2", "--monitoring", "--prometheus", findTool(t, "prometheus", "prometheus"),
		"--monitoring-address", "127.0.0.1:0", "--scrape", "kube-state-metrics=127.0.0.1:"+port)
	address := "http://" + lab.Argument(t, "prometheus", "--web.listen-address=")
	t.Setenv("PROMETHEUS", address)
	c, err := api.NewClient(api.Config{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	m := monitored{t, prometheus.NewAPI(c)}
	startStates := func() (stop func()) {
		return runBeside(t, nil, states, "--kubeconfig", lab.Kubeconfig, "--resources", "deployments,pods",
			"--host", "127.0.0.1", "--port", port, "--telemetry-host", "127.0.0.1", "--telemetry-port", freePort(t))
	}
	stop := startStates()
	startKEDA(t, lab, program, source)
	m.waitData(`up{job="kube-state-metrics"} == 1`)

	openPage(t, "scale-to-zero.md").follow(t, lab)

	pods := &corev1.PodList{}
	if err := lab.Client.List(t.Context(), pods, client.InNamespace(bt.Namespace), client.MatchingLabels{"app": "chat"}); err != nil {
		t.Fatal(err)
	}
	var awake *corev1.Pod
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp == nil {
			awake = &pods.Items[i]
		}
	}
	if awake == nil {
		t.Fatal("chat was woken, and has no pod")
	}
	if _, allocation := lab.WaitBound(t, awake); allocation == nil {
		t.Error("the pod that was woken has no allocation")
	}

	// What needs it goes, and so does what could tell that there are no other pods: it is idle, and stays.
	lab.Delete(t, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: bt.Namespace, Name: "client"}}, 0)
	stop()
	waitScaledObject(t, lab, "chat", "Ready", "False", "TriggerError")
	lab.Annotate(t, awake, gpusim.AnnotationGPUActive, "false")
	m.waitData(`berth_pod_gpu_idle_seconds{namespace="default", pod="` + awake.Name + `"} > 40`) // 15 + 10 and some more
	if n := replicas(t, lab, "chat"); n != 1 {
		t.Errorf("chat has %d replicas without kube-state-metrics", n)
	}
	startStates()
	harness.Eventually(t, "chat is scaled to zero when kube-state-metrics is back", func(context.Context) (bool, string) {
		n := replicas(t, lab, "chat")
		return n == 0, fmt.Sprint(n, " replicas")
	})

	// All the while the other one was measured no more than it was busy.
	waitScaledObject(t, lab, "draw", "Active", "True", "ScalerActive")
	if n := replicas(t, lab, "draw"); n != 1 {
		t.Errorf("draw has %d replicas, though nobody can tell whether it computes", n)
	}
	events := &corev1.EventList{}
	if err := lab.Client.List(t.Context(), events, client.InNamespace(bt.Namespace)); err != nil {
		t.Fatal(err)
	}
	deactivated, activated := 0, 0
	for _, e := range events.Items {
		switch e.Reason {
		case "KEDAScaleTargetDeactivated":
			deactivated++
			if !strings.Contains(e.Message, "chat") {
				t.Errorf("the Event %q", e.Message)
			}
		case "KEDAScaleTargetActivated":
			activated++
			if !strings.HasSuffix(e.Message, "default/chat from 0 to 1, triggered by s1-workload-default") {
				t.Errorf("the Event %q: only what needs the model may wake it", e.Message)
			}
		}
	}
	if deactivated == 0 || activated == 0 {
		t.Errorf("%d Events say that chat was scaled to zero, and %d that it was woken", deactivated, activated)
	}
}

func replicas(t *testing.T, lab *harness.Lab, name string) int32 {
	t.Helper()
	deployment := &appsv1.Deployment{}
	if err := lab.Client.Get(t.Context(), client.ObjectKey{Namespace: bt.Namespace, Name: name}, deployment); err != nil {
		t.Fatal(err)
	}
	return *deployment.Spec.Replicas
}

// waitScaledObject waits until a condition of a ScaledObject has a status and a reason.
func waitScaledObject(t *testing.T, lab *harness.Lab, name, kind, status, reason string) {
	t.Helper()
	harness.Eventually(t, fmt.Sprintf("%s of ScaledObject %s is %s, %s", kind, name, status, reason), func(ctx context.Context) (bool, string) {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(schema.GroupVersionKind{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObject"})
		if err := lab.Client.Get(ctx, client.ObjectKey{Namespace: bt.Namespace, Name: name}, object); err != nil {
			return false, err.Error()
		}
		conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
		for _, c := range conditions {
			if c, _ := c.(map[string]any); c["type"] == kind && c["status"] == status && c["reason"] == reason {
				return true, ""
			}
		}
		return false, fmt.Sprint(conditions)
	})
}
