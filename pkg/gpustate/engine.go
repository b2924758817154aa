// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/estimator"
)

// engine is what the pod's own command line says about how its engine takes memory.
type engine struct {
	runtime berthv1alpha1.Runtime
	// settings are what the estimate depends on: from the annotations, else from the command line.
	settings estimator.Settings
	// followsCount: the command takes its tensor-parallel size from the allocation.
	followsCount bool
	// handsUtilization: the command takes its memory fraction from the allocation.
	handsUtilization bool
	// take is the fraction that the engine takes whatever it was promised; zero if it takes what it needs.
	take  alloc.Ratio
	notes []Note
}

func readEngine(parsed *berthv1alpha1.PodRequest, c *corev1.Container) engine {
	e := engine{
		runtime: parsed.Runtime,
		settings: estimator.Settings{
			Runtime: estimator.Runtime(parsed.Runtime), ContextLength: int64(parsed.ContextLength),
			Parallel: int64(parsed.Parallel), KVCacheType: parsed.KVCacheType,
		},
		followsCount:     refersTo(c, berthv1alpha1.EnvTensorParallelSize),
		handsUtilization: refersTo(c, berthv1alpha1.EnvGPUMemoryUtilization),
	}
	return e
}

// counts are the numbers of GPUs to consider.
func (e *engine) counts(parsed *berthv1alpha1.PodRequest) ([]int, error) {
	if parsed.GPUCounts != nil {
		return parsed.GPUCounts, nil
	}
	switch {
	case e.runtime == berthv1alpha1.RuntimeVLLM && e.followsCount:
		return []int{1, 2, 4, 8}, nil
	case e.runtime == berthv1alpha1.RuntimeOllama, e.runtime == berthv1alpha1.RuntimeLlamaCpp:
		return []int{1, 2, 3, 4, 5, 6, 7, 8}, nil
	}
	return []int{1}, nil
}

// outside is what a process takes on each of n devices beside its fraction.
func (e *engine) outside(n int) alloc.Bytes {
	if e.runtime != berthv1alpha1.RuntimeVLLM {
		return alloc.Bytes{}
	}
	if n == 1 {
		return alloc.MiB(600)
	}
	return alloc.MiB(2150)
}

// refersTo says whether the container's command, arguments or own variables use a variable.
func refersTo(c *corev1.Container, name string) bool {
	uses := func(s string) bool { return strings.Contains(s, name) }
	return slices.ContainsFunc(c.Command, uses) || slices.ContainsFunc(c.Args, uses) ||
		slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return uses(v.Value) })
}
