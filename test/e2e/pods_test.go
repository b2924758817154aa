// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// image is a small Debian that is on all nodes.
const image = "debian:12-slim"

// What a container does, with the arguments that it is given in sight: it runs until it is told to end, or until it is
// killed.
var (
	serve    = []string{"sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait", "engine"}
	stubborn = []string{"sh", "-c", "trap '' TERM; while :; do sleep 1; done", "engine"}
)

// newPod returns a pod whose container "server" asks for GPU memory; "" for none.
func newPod(name, memory string, change ...func(*corev1.Pod)) *corev1.Pod {
	grace := int64(5)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			SchedulerName:                 berthv1alpha1.SchedulerName,
			TerminationGracePeriodSeconds: &grace,
			Containers:                    []corev1.Container{{Name: "server", Image: image, Command: serve}},
		},
	}
	if memory != "" {
		p.Annotations[berthv1alpha1.AnnotationGPUMemory] = memory
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func arguments(args ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Args = args }
}

func on(node string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node} }
}

func priority(class string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.PriorityClassName = class }
}

// create creates an object.
func (c *cluster) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := c.client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// run creates a pod, and waits until it is Ready.
func (c *cluster) run(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	c.create(t, pod)
	return c.waitReady(t, pod)
}

func (c *cluster) waitReady(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	return c.waitPod(t, pod, "is Ready", func(p *corev1.Pod) bool {
		for _, condition := range p.Status.Conditions {
			if condition.Type == corev1.PodReady {
				return condition.Status == corev1.ConditionTrue
			}
		}
		return false
	})
}

func (c *cluster) waitPod(t *testing.T, pod *corev1.Pod, what string, met func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	now := &corev1.Pod{}
	eventually(t, "pod "+pod.Name+" "+what, func(ctx context.Context) (bool, string) {
		if err := c.client.Get(ctx, client.ObjectKeyFromObject(pod), now); err != nil {
			return false, err.Error()
		}
		return met(now), fmt.Sprintf("node %q, phase %s, conditions %v, containers %v",
			now.Spec.NodeName, now.Status.Phase, now.Status.Conditions, now.Status.ContainerStatuses)
	})
	return now
}

func (c *cluster) waitGone(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	eventually(t, "pod "+pod.Name+" is gone", func(ctx context.Context) (bool, string) {
		now := &corev1.Pod{}
		err := c.client.Get(ctx, client.ObjectKeyFromObject(pod), now)
		return apierrors.IsNotFound(err) || err == nil && now.UID != pod.UID, fmt.Sprintf("get: %v", err)
	})
}

// allocationOf returns what a pod was given.
func allocationOf(t *testing.T, pod *corev1.Pod) *gpustate.Allocation {
	t.Helper()
	allocation, err := gpustate.DecodeAllocation(pod.Annotations[berthv1alpha1.AnnotationAllocation])
	if err != nil {
		t.Fatalf("pod %s: %v", pod.Name, err)
	}
	return allocation
}

// sight is what a container sees.
type sight struct {
	env map[string]string
	// devices are its GPUs' files.
	devices []string
	// arguments are those of its first process, without the program.
	arguments []string
}

// see asks a running container what it sees.
func see(t *testing.T, pod, container string) sight {
	t.Helper()
	const script = "env -0; echo; ls /dev/nvidia[0-9]* 2>/dev/null; echo; cat /proc/1/cmdline"
	out := kubectl(t, "-n", namespace, "exec", pod, "-c", container, "--", "sh", "-c", script)
	parts := strings.SplitN(out, "\x00\n", 2)
	if len(parts) != 2 {
		t.Fatalf("container %s of pod %s printed %q", container, pod, out)
	}
	devices, cmdline, _ := strings.Cut(parts[1], "\n\n")
	if strings.HasPrefix(parts[1], "\n") { // no devices
		devices, cmdline = "", parts[1][1:]
	}
	s := sight{env: map[string]string{}, devices: strings.Fields(devices)}
	for pair := range strings.SplitSeq(parts[0], "\x00") {
		key, value, _ := strings.Cut(pair, "=")
		s.env[key] = value
	}
	words := strings.Split(strings.TrimSuffix(cmdline, "\x00"), "\x00")
	s.arguments = words[min(len(serve), len(words)):]
	return s
}
