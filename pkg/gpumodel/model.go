// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gpumodel knows kinds of GPUs: how much memory they have, and what the driver keeps of it.
package gpumodel

import (
	"fmt"
	"strings"
)

const mib = 1 << 20

// Model is a kind of GPU.
type Model struct {
	// Short is what people call it, "H100-80"; Name is what the driver does.
	Short, Name string
	// Total is the memory in bytes, and Reserved what the driver keeps of it.
	Total, Reserved uint64
	// ComputeCapability is CUDA's.
	ComputeCapability string
	// NVLink says that all GPUs of a node are connected with each other.
	NVLink bool
}

// models is the GPUs that are known, with the totals that nvidia-smi shows for them.
var models = []Model{
	{"B200-180", "NVIDIA B200", 183359 * mib, 729 * mib, "10.0", true},
	{"H200-141", "NVIDIA H200", 143771 * mib, 607 * mib, "9.0", true},
	{"H100-80", "NVIDIA H100 80GB HBM3", 81559 * mib, 512 * mib, "9.0", true},
	{"A100-80", "NVIDIA A100-SXM4-80GB", 81920 * mib, 517 * mib, "8.0", true},
	{"A100-40", "NVIDIA A100-SXM4-40GB", 40960 * mib, 479 * mib, "8.0", true},
	{"L40S-48", "NVIDIA L40S", 46068 * mib, 602 * mib, "8.9", false},
	{"L4-24", "NVIDIA L4", 23034 * mib, 461 * mib, "8.9", false},
	{"A10-24", "NVIDIA A10", 23028 * mib, 296 * mib, "8.6", false},
	{"T4-16", "Tesla T4", 15360 * mib, 450 * mib, "7.5", false},
}

// Find returns the model of a name, short or the driver's, in any case. The short one may leave out the memory where there is
// one model of that name: "L40S".
func Find(name string) (*Model, error) {
	var alike []*Model
	for i := range models {
		m := &models[i]
		if strings.EqualFold(name, m.Short) || strings.EqualFold(name, m.Name) {
			return m, nil
		}
		if family, _, _ := strings.Cut(m.Short, "-"); strings.EqualFold(name, family) {
			alike = append(alike, m)
		}
	}
	switch len(alike) {
	case 0:
		return nil, fmt.Errorf("GPU model %q is not known: use one of %s", name, strings.Join(Names(), ", "))
	case 1:
		return alike[0], nil
	}
	names := make([]string, len(alike))
	for i, m := range alike {
		names[i] = m.Short
	}
	return nil, fmt.Errorf("there are several GPU models %q: write one of %s", name, strings.Join(names, ", "))
}

// Names are the short names of the models.
func Names() []string {
	names := make([]string, len(models))
	for i := range models {
		names[i] = models[i].Short
	}
	return names
}
