// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/engineargs"
	"github.com/berth-dev/berth/pkg/model"
)

// engine is what a pod's annotations and its container's own command line say about how its engine takes memory.
type engine struct {
	*estimator.Engine
	// settings are what the estimate depends on.
	settings estimator.Settings
	// followsCount: the command takes its tensor-parallel size from the allocation.
	followsCount bool
	// count is the number of GPUs that the command line names; zero if it names none.
	count int
	// told: the command takes its fraction of each GPU from the allocation. sized: its cache has a size of its own.
	told, sized bool
	// fraction is the one that the command line says, in parts per million; zero if it says none.
	fraction int64
	// onSeveral is what the pod's owner should know if it runs on several GPUs.
	onSeveral string
	notes     []Note
}

// EngineSettings returns the settings by which a pod's memory is estimated, and by which what agents measure of it is
// kept: those of its annotations, else of its container's command line and environment.
func EngineSettings(pod *corev1.Pod) (estimator.Settings, error) {
	parsed, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil || parsed == nil {
		return estimator.Settings{}, err
	}
	containers, err := gpuContainers(pod)
	if err != nil {
		return estimator.Settings{}, err
	}
	e, err := readEngine(pod, parsed, containers[0])
	return e.settings, err
}

// readEngine reads a container. It fails if the container starts an engine that takes a fraction of its GPUs, and the pod
// says that it is another.
func readEngine(pod *corev1.Pod, parsed *berthv1alpha1.PodRequest, c *corev1.Container) (engine, error) {
	line := commandLine(c)
	found, note, err := findEngine(pod, parsed, line)
	if err != nil {
		return engine{}, err
	}
	args := engineargs.Parse(found.Name, line)
	e := engine{
		Engine:   found,
		settings: args.Settings,
		notes:    note,

		onSeveral: args.OnSeveral,
		// A shell can hand a variable on in ways that no parser follows, so a mention is enough here.
		followsCount: args.TensorParallel.Source == engineargs.Berth || mentions(c, berthv1alpha1.EnvTensorParallelSize),
	}
	e.settings.Runtime = e.Name
	e.settings.ContextLength = cmp.Or(int64(parsed.ContextLength), e.settings.ContextLength)
	e.settings.Parallel = cmp.Or(int64(parsed.Parallel), e.settings.Parallel)
	if parsed.KVCacheType != "" {
		e.settings.KVCacheType, e.settings.KVCacheTypeV = parsed.KVCacheType, ""
	}
	e.settings.Version = e.ReleaseOf(c.Image)
	if e.Share != nil {
		if args.GPUMemoryUtilization.Source == engineargs.Unknown && !mentions(c, e.Share.Variable) {
			return engine{}, fmt.Errorf("what the container says by %s cannot be known before it starts, and %s takes that fraction of each GPU: write the number there, or %s",
				e.Share.Flag, e.Title, e.Share.Told())
		}
		e.readShare(c, &args)
	}
	if len(args.Unknown) > 0 && parsed.Model != "" && parsed.TotalMemory == nil {
		e.notes = append(e.notes, Note{
			Reason: "EngineSettingsUnknown", Warning: true,
			Message: fmt.Sprintf("What %s says cannot be known before the container starts, so the engine's defaults are assumed; say it by annotations, or measure the pod and set "+berthv1alpha1.AnnotationGPUMemory, strings.Join(args.Unknown, ", ")),
		})
	}
	return e, nil
}

// findEngine returns the engine that the pod names or, if it names none, the one that its container shows: booked as
// custom, one that takes a fraction of its GPUs would take what others were promised. One that takes what it needs is
// looked for where that is to be estimated; a total that the pod states is booked as it is.
func findEngine(pod *corev1.Pod, parsed *berthv1alpha1.PodRequest, c engineargs.Container) (*estimator.Engine, []Note, error) {
	named := estimator.EngineOf(parsed.Runtime)
	shown, sure := engineargs.Engine(c)
	_, isNamed := pod.Annotations[berthv1alpha1.AnnotationRuntime]
	switch {
	case shown == nil || shown == named:
	case !isNamed && (shown.Share != nil || parsed.TotalMemory == nil):
		note := Note{
			Reason:  "EngineRecognised",
			Message: fmt.Sprintf("%s is not set, and the container shows %s: its memory is booked as that engine takes it", berthv1alpha1.AnnotationRuntime, shown.Title),
		}
		return shown, []Note{note}, nil
	case shown.Share == nil:
	case sure:
		return nil, nil, fmt.Errorf("%s is %s, but the container starts %s, which takes a fraction of each GPU: write %s",
			berthv1alpha1.AnnotationRuntime, named.Name, shown.Title, runtimeOf(shown))
	case named.Share == nil:
		note := Note{
			Reason: "EngineRecognised", Warning: true,
			Message: fmt.Sprintf("%s is %s, so the container is taken to use what is booked and no more, though its image or variables show %s",
				berthv1alpha1.AnnotationRuntime, named.Name, shown.Title),
		}
		return named, []Note{note}, nil
	}
	return named, nil, nil
}

// runtimeOf says how a pod names an engine.
func runtimeOf(e *estimator.Engine) string {
	if slices.Contains(model.Runtimes, e.Name) {
		return berthv1alpha1.AnnotationRuntime + ": " + string(e.Name)
	}
	return "no " + berthv1alpha1.AnnotationRuntime
}

// readShare finds out which fraction of a device the engine will take, unless it is told by the allocation or its cache
// has a size of its own.
func (e *engine) readShare(c *corev1.Container, args *engineargs.Result) {
	e.told = args.GPUMemoryUtilization.Source == engineargs.Berth || e.Share.Variable != "" && mentions(c, e.Share.Variable)
	e.sized = args.KVCacheMemory.Source == engineargs.Literal
	if s := args.TensorParallel.Source; s == engineargs.Literal || s == engineargs.Unset && args.DataParallel.Value > 0 {
		e.count = int(max(args.TensorParallel.Value, 1) * max(args.PipelineParallel.Value, 1) * max(args.DataParallel.Value, 1))
	}
	if args.GPUMemoryUtilization.Source == engineargs.Literal {
		e.fraction = args.GPUMemoryUtilization.Value
	}
	if e.told || e.sized {
		return
	}
	why := "by its " + e.Share.Flag
	if e.fraction == 0 {
		why = "it sets no " + e.Share.Flag
	}
	e.notes = append(e.notes, Note{
		Reason: "TakesItsShare",
		Message: fmt.Sprintf("%s will take %s of each GPU, %s, so that is booked; write %s",
			e.Title, formatRatio(e.take(estimator.DeviceInfo{}, 1)), why, e.Share.Told()),
	})
}

// take is the fraction of each of n devices that the engine takes whatever it was promised; zero if it takes what it
// needs.
func (e *engine) take(dev estimator.DeviceInfo, n int) alloc.Ratio {
	if e.Share == nil || e.told || e.sized {
		return 0
	}
	return alloc.Ratio(cmp.Or(e.fraction, e.Share.Default(&e.settings, dev, n)))
}

// ofFree says whether the fraction is one of what is free.
func (e *engine) ofFree() bool { return e.Share != nil && e.Share.OfFree }

// fillsBooking says whether the engine takes all that it is given, whatever it needs.
func (e *engine) fillsBooking() bool { return e.Share != nil && !e.sized }

// tensorParallelSize is what the engine is told for n devices; one that splits by layers has none.
func (e *engine) tensorParallelSize(n int) int {
	if e.SplitsByLayers {
		return 1
	}
	return n
}

// outside is what a process takes on each of n devices beside its fraction, and what of that it holds before it looks
// at what is free, when nothing is known of its model but what it is said to need there.
func (e *engine) outside(dev estimator.DeviceInfo, n int, says alloc.Bytes) (outside, before alloc.Bytes) {
	switch {
	case e.Share == nil:
		return alloc.Bytes{}, alloc.Bytes{}
	case e.Share.NeedsModel:
		return says, says
	}
	o, b := e.Share.Outside(&e.settings, dev, n)
	return alloc.BytesOfInt64(o), alloc.BytesOfInt64(b)
}

// beside is what an engine takes on a device beside its fraction of it: one that takes a fraction f of what is free after
// it holds before takes outside + f × (free − before), and no more than that is free on any device.
func beside(outside, before alloc.Bytes, take alloc.Ratio) alloc.Bytes {
	return outside.Minus(take.Of(before))
}

// counts are the numbers of GPUs to consider.
func (e *engine) counts(parsed *berthv1alpha1.PodRequest) ([]int, error) {
	counts := parsed.GPUCounts
	switch {
	case e.count > 0 && counts == nil:
		return []int{e.count}, nil
	case e.count > 0 && !slices.Contains(counts, e.count):
		return nil, fmt.Errorf("%s allows %v, but the command line says --tensor-parallel-size for %d GPUs: write $(%s) there",
			berthv1alpha1.AnnotationGPUCount, counts, e.count, berthv1alpha1.EnvTensorParallelSize)
	case e.count > 0:
		return []int{e.count}, nil
	case counts != nil:
		return counts, nil
	}
	return e.Counts(e.followsCount), nil
}

// commandLine is the part of a container that says how its engine is run.
func commandLine(c *corev1.Container) engineargs.Container {
	out := engineargs.Container{
		Command: c.Command, Args: c.Args, Image: c.Image, Env: make(map[string]string, len(c.Env)), OpaqueEnvFrom: len(c.EnvFrom) > 0,
	}
	for i := range c.Env {
		v := &c.Env[i]
		if v.ValueFrom == nil {
			out.Env[v.Name] = v.Value
			continue
		}
		if out.UnknownEnv == nil {
			out.UnknownEnv = map[string]bool{}
		}
		out.UnknownEnv[v.Name] = true
	}
	return out
}

// mentions says whether the container's command, arguments or own variables use a variable.
func mentions(c *corev1.Container, name string) bool {
	uses := func(s string) bool { return strings.Contains(s, name) }
	return slices.ContainsFunc(c.Command, uses) || slices.ContainsFunc(c.Args, uses) ||
		slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return uses(v.Value) })
}
