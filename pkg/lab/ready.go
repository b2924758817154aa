// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// pollInterval is how often a condition of readiness is looked at.
	pollInterval = 50 * time.Millisecond
	// policyReload is how long the apiserver takes to load a changed set of admission policies: it looks once a
	// second, then compiles them.
	policyReload = 1500 * time.Millisecond
	// loopback is where all parts of a lab listen.
	loopback = "127.0.0.1"
	// maxStarts is how often a child may be started before the lab is ready; a port can be taken now and then.
	maxStarts = 4
	// probeName is the Node and the pod that show that scheduler and kubelets work.
	probeName = "berth-lab-probe"
)

// waitReady returns when everything that a user of the lab relies on was seen to work.
func (l *Lab) waitReady(ctx context.Context) error {
	conditions := []struct {
		name string
		met  func(context.Context) (bool, error)
	}{
		{"the default service account", l.serviceAccountExists},
		{"the admission policies", l.policiesWork},
		{"the simulated nodes", l.nodesReady},
	}
	for _, c := range conditions {
		if err := l.poll(ctx, c.met); err != nil {
			return fmt.Errorf("wait for %s: %w", c.name, err)
		}
	}
	return l.probe(ctx)
}

// poll waits until a condition is met, or the lab has failed.
func (l *Lab) poll(ctx context.Context, met func(context.Context) (bool, error)) error {
	return wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		select {
		case err := <-l.failed:
			return false, err
		default:
		}
		for _, p := range l.children {
			if p.Starts() > maxStarts {
				return false, fmt.Errorf("%s does not stay up; the end of its log:\n%s", p.Name, tail(p.Output))
			}
		}
		return met(ctx)
	})
}

func (l *Lab) serviceAccountExists(ctx context.Context) (bool, error) {
	for _, namespace := range []string{metav1.NamespaceDefault, berthv1alpha1.Namespace} {
		_, err := l.client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		if err != nil {
			return false, ignoreNotFound(err)
		}
	}
	return true, nil
}

// policiesWork says whether a pod that asks for memory is changed, where the apiserver has the policies for that, and
// one that asks in a wrong way is refused. Neither is created. All policies are loaded together, so that those which are not looked at work too.
func (l *Lab) policiesWork(ctx context.Context) (bool, error) {
	if time.Since(l.installed) < policyReload {
		return false, nil
	}
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	pods := l.client.CoreV1().Pods(metav1.NamespaceDefault)
	pod := probePod()
	pod.Annotations = map[string]string{berthv1alpha1.AnnotationGPUMemory: "1Gi"}
	if l.handOff {
		changed, err := pods.Create(ctx, pod, dryRun)
		if err != nil {
			return false, fmt.Errorf("a pod that asks for GPU memory is refused: %w", err)
		}
		if !berthv1alpha1.HasReference(&changed.Spec.Containers[0]) {
			return false, nil
		}
	}
	pod.Annotations[berthv1alpha1.AnnotationGPUMemory] = "30"
	_, err := pods.Create(ctx, pod, dryRun)
	return err != nil && strings.Contains(err.Error(), "30Gi"), nil
}

// nodesReady says whether all simulated nodes are Ready and those with GPUs have reported them.
func (l *Lab) nodesReady(context.Context) (bool, error) {
	for _, node := range l.opts.Nodes {
		if !l.fleet.ready(node) {
			return false, nil
		}
	}
	return true, nil
}

// probe has the scheduler place a pod on a node of its own and waits until it runs, then removes both.
func (l *Lab) probe(ctx context.Context) (err error) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: probeName, Labels: map[string]string{corev1.LabelHostname: probeName},
	}}
	if _, err := l.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return err
	}
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	nodes, pods := l.client.CoreV1().Nodes(), l.client.CoreV1().Pods(berthv1alpha1.Namespace)
	pod := probePod()
	if len(l.opts.Scheduler) == 0 {
		pod.Spec.NodeName = probeName
	}
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return err
	}
	err = l.poll(ctx, func(ctx context.Context) (bool, error) {
		pod, err := pods.Get(ctx, probeName, metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning, err
	})
	if err != nil {
		return fmt.Errorf("wait for a pod to be scheduled and to run: %w", err)
	}
	if err := pods.Delete(ctx, probeName, now); err != nil {
		return err
	}
	if err := nodes.Delete(ctx, probeName, now); err != nil {
		return err
	}
	return l.client.EventsV1().Events(berthv1alpha1.Namespace).DeleteCollection(ctx, now, metav1.ListOptions{})
}

// probePod asks for nothing and can run only on the probe's node.
func probePod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: probeName},
		Spec: corev1.PodSpec{
			SchedulerName: berthv1alpha1.SchedulerName,
			NodeSelector:  map[string]string{corev1.LabelHostname: probeName},
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot:   new(true),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name:  "probe",
				Image: "probe",
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m")},
				},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}

// tail returns the last lines of a file.
func tail(file *os.File) []byte {
	const size = 1000
	info, err := file.Stat()
	if err != nil {
		return nil
	}
	from := max(0, info.Size()-size)
	text := make([]byte, info.Size()-from)
	n, _ := file.ReadAt(text, from) // what could be read is shown
	_, whole, found := bytes.Cut(text[:n], []byte("\n"))
	if from > 0 && found {
		return whole
	}
	return text[:n]
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// freePort returns a port of the loopback that nobody listens on. Somebody may do so before it is used; a child that
// meets this dies and is started again with another one.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port), nil
}
