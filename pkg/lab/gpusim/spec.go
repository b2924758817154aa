// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpusim

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpumodel"
)

// Annotations of a Node that say what hardware it has.
const (
	// AnnotationGPUs is the GPUs: "8xH100-80" or "4xA100-40,2xL40S-48". A Node without it has none simulated.
	AnnotationGPUs = "lab.berth.dev/gpus"
	// AnnotationForeignMemory is memory that processes outside of all pods hold, by the index of the GPU:
	// "0=60Gi,3=512Mi".
	AnnotationForeignMemory = "lab.berth.dev/foreign-memory"
	// AnnotationUnhealthy is the reasons why GPUs are unhealthy, by the index of the GPU: "3=Xid79".
	AnnotationUnhealthy = "lab.berth.dev/unhealthy"
	// AnnotationFluctuation is by how much, at most, every process on the node holds less than it should, another
	// amount each second: "32Mi". Without it memory is steady.
	AnnotationFluctuation = "lab.berth.dev/fluctuation"
)

// Spec is what hardware a node has, and what state it is in besides what its pods do.
type Spec struct {
	// GPUs are the models of the GPUs, by index.
	GPUs []*gpumodel.Model
	// Foreign is the memory, in bytes, that processes outside of all pods hold, by index.
	Foreign map[int]uint64
	// Unhealthy is the reasons why GPUs are unhealthy, by index.
	Unhealthy map[int]string
	// Fluctuation is by how much, in bytes, every process at most holds less than it should.
	Fluctuation uint64
}

// ParseSpec reads the annotations of a Node. The errors say which annotation is wrong and how.
func ParseSpec(annotations map[string]string) (*Spec, error) {
	spec := &Spec{Foreign: map[int]uint64{}, Unhealthy: map[int]string{}}
	var err error
	if spec.GPUs, err = parseGPUs(annotations[AnnotationGPUs]); err != nil {
		return nil, fmt.Errorf("%s: %w", AnnotationGPUs, err)
	}
	err = eachGPU(annotations[AnnotationForeignMemory], len(spec.GPUs), func(i int, value string) (err error) {
		spec.Foreign[i], err = parseMemory(value)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", AnnotationForeignMemory, err)
	}
	err = eachGPU(annotations[AnnotationUnhealthy], len(spec.GPUs), func(i int, value string) error {
		if value == "" {
			return errors.New("a reason is missing, as in 3=Xid79")
		}
		spec.Unhealthy[i] = value
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", AnnotationUnhealthy, err)
	}
	if value, ok := annotations[AnnotationFluctuation]; ok {
		if spec.Fluctuation, err = parseMemory(value); err != nil {
			return nil, fmt.Errorf("%s: %w", AnnotationFluctuation, err)
		}
	}
	return spec, nil
}

func parseMemory(s string) (uint64, error) {
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Sign() <= 0 {
		return 0, fmt.Errorf("%q is not an amount of memory such as 60Gi", s)
	}
	return uint64(q.Value()), nil
}

// parseGPUs reads "4xA100-40,2xL40S-48".
func parseGPUs(s string) ([]*gpumodel.Model, error) {
	var gpus []*gpumodel.Model
	for part := range strings.SplitSeq(s, ",") {
		count, name, ok := strings.Cut(strings.TrimSpace(part), "x")
		n, err := strconv.Atoi(count)
		if !ok || err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number of GPUs and their model, such as 8xH100-80", part)
		}
		model, err := gpumodel.Find(name)
		if err != nil {
			return nil, err
		}
		if len(gpus)+n > alloc.MaxDevices {
			return nil, fmt.Errorf("%q are more than %d GPUs on one node", s, alloc.MaxDevices)
		}
		for range n {
			gpus = append(gpus, model)
		}
	}
	return gpus, nil
}

// eachGPU calls f for each entry of "0=value,3=value", of a node with n GPUs; an empty s has none.
func eachGPU(s string, n int, f func(i int, value string) error) error {
	if s == "" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		index, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		i, err := strconv.Atoi(index)
		switch {
		case !ok || err != nil:
			return fmt.Errorf("%q does not start with the index of a GPU and =, as in 0=…", part)
		case i < 0 || i >= n:
			return fmt.Errorf("%q is about GPU %d, but the node has %d GPUs, counted from 0", part, i, n)
		}
		if err := f(i, value); err != nil {
			return err
		}
	}
	return nil
}
