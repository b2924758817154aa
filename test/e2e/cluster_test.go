// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// systemNamespace is Berth's.
	systemNamespace = "berth-system"
	// namespace is where the tests' pods are.
	namespace = "default"
	// timeout is how long a condition may take that is no matter of speed: a container is started in some seconds.
	timeout      = 90 * time.Second
	pollInterval = 100 * time.Millisecond
)

// cluster is the kind cluster that hack/e2e.sh has made.
type cluster struct {
	config  *rest.Config
	client  client.Client // as the cluster's admin
	workers []*worker
	// images is the prefix of the names of Berth's images, version is their tag.
	images, version string
	// artifacts is where logs are kept.
	artifacts string
}

// newCluster connects to the cluster. Without one the test is skipped.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	name := os.Getenv("E2E_CLUSTER")
	if name == "" {
		t.Skip("make e2e runs this on a cluster of its own")
	}
	log.SetLogger(klog.Background()) // the client complains without one
	c := &cluster{images: os.Getenv("E2E_IMAGES"), version: os.Getenv("E2E_VERSION"), artifacts: os.Getenv("E2E_ARTIFACTS")}
	for _, node := range []string{name + "-worker", name + "-worker2"} {
		c.workers = append(c.workers, newWorker(node, filepath.Join(os.Getenv("E2E_NODES"), node)))
	}
	var err error
	if c.config, err = clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG")); err != nil {
		t.Fatal(err)
	}
	c.config.QPS = -1
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, berthv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	if c.client, err = client.New(c.config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return c
}

// part runs a part of the test. Afterwards its pods are gone and the GPUs are idle again.
func (c *cluster) part(t *testing.T, name string, run func(*testing.T, *cluster)) {
	t.Run(name, func(t *testing.T) {
		t.Cleanup(func() {
			if t.Failed() {
				c.keepState(t)
			}
			c.clean(t)
		})
		stop := c.followLogs(t)
		t.Cleanup(stop)
		run(t, c)
	})
}

// clean deletes what a part may have made.
func (c *cluster) clean(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout) // t's own has ended
	defer cancel()
	if out, err := command(ctx, "kubectl", "-n", namespace, "delete", "deployments,pods", "--all", "--grace-period=1"); err != nil {
		t.Errorf("clean up: %v\n%s", err, out)
	}
	for _, w := range c.workers {
		w.reset(t)
	}
}

// worker returns the node of that name.
func (c *cluster) worker(t *testing.T, name string) *worker {
	t.Helper()
	for _, w := range c.workers {
		if w.name == name {
			return w
		}
	}
	t.Fatalf("node %q has no GPUs", name)
	return nil
}

// command runs a program and returns what it printed.
func command(ctx context.Context, name string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out.String(), nil
}

// must runs a program that has to succeed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), name, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// kubectl runs kubectl, as an admin would.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return must(t, "kubectl", args...)
}

// eventually waits until a condition is met, and fails the test with what it said last if that takes too long.
func eventually(t *testing.T, what string, met func(context.Context) (ok bool, state string)) {
	t.Helper()
	for deadline := time.Now().Add(timeout); ; time.Sleep(pollInterval) {
		ok, state := met(t.Context())
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s; %s", timeout, what, state)
		}
	}
}

// get reads an object anew.
func (c *cluster) get(t *testing.T, object client.Object) {
	t.Helper()
	if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		t.Fatal(err)
	}
}

// agentPod returns the pod of a node's agent.
func (c *cluster) agentPod(t *testing.T, w *worker) *corev1.Pod {
	t.Helper()
	for _, pod := range c.systemPods(t, "agent") {
		if pod.Spec.NodeName == w.name {
			return &pod
		}
	}
	t.Fatalf("no agent runs on %s", w.name)
	return nil
}

// systemPods returns Berth's pods of one component that are not on their way out.
func (c *cluster) systemPods(t *testing.T, component string) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	if err := c.client.List(t.Context(), &list, client.InNamespace(systemNamespace),
		client.MatchingLabels{"app.kubernetes.io/name": "berth-" + component}); err != nil {
		t.Fatal(err)
	}
	var pods []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			pods = append(pods, p)
		}
	}
	return pods
}
