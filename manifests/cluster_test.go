// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/lab/controlplane"
	"github.com/berth-dev/berth/pkg/lab/install"
	"github.com/berth-dev/berth/test/integration/harness"
)

// cluster is the control plane that the tests of this package share (a process can start only one), with the
// manifests applied; nil with -short.
var cluster *testCluster

type testCluster struct {
	controlPlane *controlplane.ControlPlane
	admin        kubernetes.Interface
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		return m.Run()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cp, err := controlplane.Start(ctx, controlplane.Options{
		Controllers:   []string{"serviceaccount-controller", "resourcequota-controller"},
		KubeAPIServer: os.Getenv(harness.EnvKubeAPIServer),
		APIServerArgs: strings.Fields(os.Getenv(harness.EnvAPIServerArgs)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the control plane:", err)
		return 1
	}
	defer func() {
		if err := cp.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the control plane:", err)
		}
	}()
	cluster = &testCluster{controlPlane: cp, admin: kubernetes.NewForConfigOrDie(cp.Config())}
	if err := cluster.install(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		return 1
	}
	return m.Run()
}

// needCluster skips the test where there is no control plane.
func needCluster(t *testing.T) *testCluster {
	t.Helper()
	if cluster == nil {
		t.Skip("needs a control plane")
	}
	return cluster
}

// install applies the manifests, and what a cluster with GPUs has beside them, and waits for the policies to be in
// force.
func (c *testCluster) install(ctx context.Context) error {
	client := dynamic.NewForConfigOrDie(c.controlPlane.Config())
	objects, err := manifests.Objects(".")
	if err != nil {
		return err
	}
	// Without the policies that write the hand-off most tests here have no subject: this fails.
	objects, left, err := install.Fit(c.admin.Discovery(), objects)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("the apiserver does not serve %s", strings.Join(left, ", "))
	}
	for _, object := range objects {
		if err := apply(ctx, client, c.mapper(), object); err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	// The GPU operator's; an overhead shows that the apiserver's own plugins see the class that a policy put in.
	class := &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "nvidia"},
		Handler:    "nvidia",
		Overhead:   &nodev1.Overhead{PodFixed: corev1.ResourceList{"cpu": quantity("1m")}},
	}
	if _, err := c.admin.NodeV1().RuntimeClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		return err
	}
	return c.waitForPolicies(ctx)
}

func (c *testCluster) mapper() meta.RESTMapper {
	return restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.admin.Discovery()))
}

// apply creates the object, waiting for its kind to be served.
func apply(ctx context.Context, client dynamic.Interface, mapper meta.RESTMapper, object *unstructured.Unstructured) error {
	gvk := object.GroupVersionKind()
	return wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return false, nil
		}
		_, err = client.Resource(mapping.Resource).Namespace(object.GetNamespace()).
			Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "test", Force: true})
		return err == nil, err
	})
}

// waitForPolicies returns when each policy has been seen to act: the apiserver reloads them once a second.
func (c *testCluster) waitForPolicies(ctx context.Context) error {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		for _, probe := range []struct {
			name, value string
			acts        func(*corev1.Pod, error) bool
		}{
			{"berth.dev/gpu-memory", "30", func(_ *corev1.Pod, err error) bool { return apierrors.IsInvalid(err) }},
			{"berth.dev/gpu-memroy", "30Gi", func(_ *corev1.Pod, err error) bool { return apierrors.IsInvalid(err) }},
			{"berth.dev/allocation", "{}", func(_ *corev1.Pod, err error) bool { return apierrors.IsForbidden(err) }},
			{"berth.dev/gpu-memory", "30Gi", func(pod *corev1.Pod, err error) bool {
				return err == nil && len(pod.Spec.Containers[0].Env) > 0
			}},
		} {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "probe", Annotations: map[string]string{probe.name: probe.value}},
				Spec: corev1.PodSpec{
					SchedulerName: "berth", Containers: []corev1.Container{{Name: "c", Image: "example.test/c"}},
				},
			}
			pod, err := c.admin.CoreV1().Pods(metav1.NamespaceDefault).
				Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if !probe.acts(pod, err) {
				return false, nil
			}
		}
		return true, nil
	})
}

// as returns a client of the user, with the permissions of an administrator, so that only the policies decide.
func (c *testCluster) as(user string, extra map[string][]string) kubernetes.Interface {
	return kubernetes.NewForConfigOrDie(c.config(user, extra))
}

func (c *testCluster) config(user string, extra map[string][]string) *rest.Config {
	config := c.controlPlane.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters"}, Extra: extra}
	return config
}
