// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package demo is a short tour of Berth on a lab: a fleet of unlike GPUs, three waves of Deployments made from the
// shipped examples, and in the end the map of kubectl berth top. It fails unless every pod was placed right.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/berth-dev/berth/pkg/cli/cluster"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/lab"
)

const (
	// waveTimeout bounds a wave; one takes a few seconds.
	waveTimeout = 45 * time.Second
	// checkInterval is how often the cluster is looked at while a wave is placed.
	checkInterval = 250 * time.Millisecond
	// aliveInterval is the longest silence.
	aliveInterval = 3 * time.Second
)

// Options are what can be chosen about the demo.
type Options struct {
	// Lab is the lab to bring up; its nodes are those of the fleet "demo".
	Lab lab.Options
	// Out gets the map, in a style; progress goes to Lab.Progress.
	Out   io.Writer
	Style gpumap.Style
	// Keep leaves the lab running in the end, until ctx is cancelled.
	Keep bool
}

// Run runs the demo. It returns an error that says what is wrong if a pod was not placed as it should be, and leaves
// nothing behind either way.
func Run(ctx context.Context, opts Options) (err error) {
	begin := time.Now()
	progress := func(format string, args ...any) {
		fmt.Fprintf(opts.Lab.Progress, "%5.1fs  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
	fail(opts.Lab.Nodes)
	l, err := lab.Up(ctx, opts.Lab)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Stop()) }()
	config, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
	if err != nil {
		return err
	}
	// A client-side rate limit would only slow down the demo.
	config.QPS = -1
	d, err := newDirector(config, progress)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-l.Failed():
			cancel(err)
		case <-ctx.Done():
		}
	}()
	if err := d.run(ctx, opts); err != nil {
		if cause := context.Cause(ctx); ctx.Err() != nil && !errors.Is(cause, context.Canceled) {
			return cause
		}
		return err
	}
	progress("every pod that fits was placed right, checked GPU by GPU; the others say why they wait")
	if opts.Keep {
		progress("the lab stays until Ctrl-C: export KUBECONFIG=%s; kubectl berth ui shows it in a browser", l.Kubeconfig())
		<-ctx.Done()
	}
	return nil
}

// director applies the waves and watches what becomes of them.
type director struct {
	kube     kubernetes.Interface
	cluster  *cluster.Client
	progress func(format string, args ...any)
	// told is what was last said of each pod.
	told map[string]string
}

func newDirector(config *rest.Config, progress func(string, ...any)) (*director, error) {
	d := &director{progress: progress, told: map[string]string{}}
	var err error
	if d.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	d.cluster, err = cluster.New(config)
	return d, err
}

func (d *director) run(ctx context.Context, opts Options) error {
	settings, err := d.cluster.Settings(ctx)
	if err != nil {
		return err
	}
	for i := range tour {
		if err := d.apply(ctx, i); err != nil {
			return err
		}
		if err := d.settle(ctx, i); err != nil {
			return err
		}
	}
	objects, err := d.cluster.Read(ctx)
	if err != nil {
		return err
	}
	m, err := gpumap.Build(objects, settings)
	if err != nil {
		return err
	}
	fmt.Fprintln(opts.Out)
	if err := m.Render(opts.Out, opts.Style); err != nil {
		return err
	}
	fmt.Fprintln(opts.Out)
	return verify(objects, settings.Headroom)
}

// apply applies a wave.
func (d *director) apply(ctx context.Context, i int) error {
	w := &tour[i]
	names := make([]string, len(w.workloads))
	for j := range w.workloads {
		names[j] = w.workloads[j].String()
	}
	d.progress("wave %d of %d: %s (%s)", i+1, len(tour), w.title, strings.Join(names, ", "))
	for j := range w.workloads {
		deployment, err := w.workloads[j].deployment(w.load)
		if err != nil {
			return err
		}
		_, err = d.kube.AppsV1().Deployments(deployment.Namespace).Create(ctx, deployment, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create deployment %s: %w", deployment.Name, err)
		}
	}
	return nil
}

// settle waits until all pods of the waves so far are where they belong: those that fit are Ready and their memory is
// measured, the others say why they wait.
func (d *director) settle(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, waveTimeout)
	defer cancel()
	spoken := time.Now()
	var missing []string
	for {
		objects, err := d.cluster.Read(ctx)
		if err == nil {
			if d.tell(objects) {
				spoken = time.Now()
			}
			if missing = unsettled(objects, tour[:i+1]); len(missing) == 0 {
				return nil
			}
			if time.Since(spoken) >= aliveInterval {
				d.progress("  waiting for %s", strings.Join(missing, ", "))
				spoken = time.Now()
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("wave %d is not done after %s: waiting for %s", i+1, waveTimeout, strings.Join(missing, ", "))
			}
			return ctx.Err()
		case <-time.After(checkInterval):
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// tell says what is new of each pod, and whether anything was.
func (d *director) tell(o *gpumap.Objects) (spoke bool) {
	index := map[string]int32{}
	for i := range o.GPUNodes {
		for j := range o.GPUNodes[i].Status.Devices {
			index[o.GPUNodes[i].Status.Devices[j].UUID] = o.GPUNodes[i].Status.Devices[j].Index
		}
	}
	for i := range o.Pods {
		pod := &o.Pods[i]
		if workloadOf(pod) == nil {
			continue
		}
		news := newsOf(pod, index)
		if news != "" && news != d.told[pod.Name] {
			d.told[pod.Name] = news
			d.progress("  %s %s", pod.Name, news)
			spoke = true
		}
	}
	return spoke
}

// newsOf says where a pod is, or why it is nowhere; nothing while that is not known.
func newsOf(pod *corev1.Pod, index map[string]int32) string {
	if pod.Spec.NodeName == "" {
		// The numbers of each GPU, which follow the reasons, are on the map.
		if reasons, _, _ := strings.Cut(waitsFor(pod), ". "); reasons != "" {
			return "waits: " + reasons
		}
		return ""
	}
	a, err := gpustate.BookingOf(pod)
	switch {
	case err != nil:
		return "is on " + pod.Spec.NodeName + ": " + err.Error()
	case a == nil:
		return "is on " + pod.Spec.NodeName + " without GPUs"
	}
	gpus := make([]string, len(a.Devices))
	for i, share := range a.Devices {
		gpus[i] = fmt.Sprintf("GPU %d (%s)", index[share.UUID], share.Memory)
	}
	return "-> " + pod.Spec.NodeName + " " + strings.Join(gpus, ", ")
}

// unsettled names what is still to come of some waves.
func unsettled(o *gpumap.Objects, waves []wave) []string {
	measured := map[string]bool{}
	for i := range o.GPUNodes {
		for j := range o.GPUNodes[i].Status.Devices {
			for _, p := range o.GPUNodes[i].Status.Devices[j].Processes {
				measured[string(p.PodUID)] = true
			}
		}
	}
	done := map[string]int32{}
	for i := range o.Pods {
		pod := &o.Pods[i]
		w := workloadOf(pod)
		switch {
		case w == nil:
		case w.gpus > 0 && isReady(pod) && measured[string(pod.UID)]:
			done[w.name]++
		case w.gpus == 0 && strings.Contains(waitsFor(pod), string(w.reason)):
			done[w.name]++
		}
	}
	var missing []string
	for i := range waves {
		for j := range waves[i].workloads {
			if w := &waves[i].workloads[j]; done[w.name] < w.replicas {
				missing = append(missing, w.name)
			}
		}
	}
	return missing
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
