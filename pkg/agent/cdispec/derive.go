// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cdispec writes the CDI specification by which GPUs are named to a container runtime without a handler of the
// NVIDIA container toolkit: where the GPU operator runs the toolkit as an NRI plugin, which takes the names from an
// annotation of the pod. What a container needs of a driver, only the toolkit knows: it is taken from the specification
// that the toolkit writes there for pods that manage GPUs, whose only device is all of them.
package cdispec

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// File is its name in the folder of specifications.
	File = "berth.dev-gpu.json"

	managementKind = "management.nvidia.com/gpu"
	allDevices     = "all"
)

// controlFiles are the device nodes that each container with a GPU has (the toolkit's pkg/nvcdi/common-nvml.go). All
// others of the toolkit's specification are left out: other GPUs, capabilities of MIG, switches, channels of IMEX.
var controlFiles = []string{"/dev/nvidia-modeset", "/dev/nvidia-uvm-tools", "/dev/nvidia-uvm", "/dev/nvidiactl"}

// gpuFile is the device node of a whole GPU.
var gpuFile = regexp.MustCompile(`^/dev/nvidia[0-9]+$`)

// specification is a CDI specification. Edits are kept as they are, with keys that are not known here.
type specification struct {
	Version string   `json:"cdiVersion"`
	Kind    string   `json:"kind"`
	Devices []device `json:"devices"`
	Edits   edits    `json:"containerEdits,omitzero"`
}

type device struct {
	Name  string `json:"name"`
	Edits edits  `json:"containerEdits"`
}

type edits map[string]any

// Derive returns a specification in which each GPU is a device called by its UUID. management is the toolkit's, and files
// are the device nodes by UUID, "/dev/nvidia3". It fails if the toolkit's does not have one of them: then it is of
// another state of the node.
func Derive(management []byte, files map[string]string) ([]byte, error) {
	var m specification
	if err := yaml.Unmarshal(management, &m); err != nil {
		return nil, fmt.Errorf("the toolkit's specification: %w", err)
	}
	i := slices.IndexFunc(m.Devices, func(d device) bool { return d.Name == allDevices })
	if m.Kind != managementKind || i < 0 {
		return nil, fmt.Errorf("the toolkit's specification has no device %s=%s", managementKind, allDevices)
	}
	nodes, _ := m.Devices[i].Edits["deviceNodes"].([]any)
	gpus, control := map[string]any{}, []any{}
	for _, node := range nodes {
		n, _ := node.(map[string]any)
		switch path, _ := n["path"].(string); {
		case gpuFile.MatchString(path):
			gpus[path] = node
		case slices.Contains(controlFiles, path):
			control = append(control, node)
		}
	}
	out := specification{Version: m.Version, Kind: berthv1alpha1.CDIKind, Edits: m.Edits}
	if out.Edits == nil {
		out.Edits = edits{}
	}
	own, _ := out.Edits["deviceNodes"].([]any)
	out.Edits["deviceNodes"] = append(own, control...)
	if groups, ok := m.Devices[i].Edits["additionalGids"]; ok {
		out.Edits["additionalGids"] = groups
	}
	for uuid, file := range files {
		node, ok := gpus[file]
		if !ok {
			return nil, fmt.Errorf("the toolkit's specification does not have %s of GPU %s", file, uuid)
		}
		out.Devices = append(out.Devices, device{uuid, edits{"deviceNodes": []any{node}}})
	}
	if len(out.Devices) == 0 {
		return nil, fmt.Errorf("there is no GPU to name")
	}
	slices.SortFunc(out.Devices, func(a, b device) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return json.MarshalIndent(out, "", "  ")
}

// mountPoints returns where a container has what a specification mounts.
func mountPoints(spec []byte) []string {
	var s struct {
		Edits struct {
			Mounts []struct {
				ContainerPath string `json:"containerPath"`
			} `json:"mounts"`
		} `json:"containerEdits"`
	}
	if json.Unmarshal(spec, &s) != nil {
		return nil
	}
	var paths []string
	for _, m := range s.Edits.Mounts {
		paths = append(paths, m.ContainerPath)
	}
	return paths
}
