// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kindgpu says what the fake GPUs of a kind node are, for the script that makes them (hack/kind) and the tests
// that change them: the driver's state and the runtime's specification of devices name the same ones.
package kindgpu

import (
	"fmt"
	"hash/fnv"
	"path/filepath"

	"github.com/berth-dev/berth/test/nvmlmock"
)

// The folder of a node's GPUs.
const (
	// DriverDir holds the library and the state, and CDIDir the specification.
	DriverDir = "driver"
	CDIDir    = "cdi"
	StateFile = "state"
)

// State returns the idle GPUs of a node: H100s, whose UUIDs are of that node only.
func State(node string, gpus int) nvmlmock.State {
	state := nvmlmock.DGX(gpus)
	state.Links = nil
	hash := fnv.New32a()
	hash.Write([]byte(node))
	for i := range state.GPUs {
		state.GPUs[i].UUID = fmt.Sprintf("GPU-%08x-0000-4000-8000-%012d", hash.Sum32(), i)
	}
	return state
}

// Device returns the device file of the index-th GPU of a node.
func Device(index int) string { return fmt.Sprintf("/dev/nvidia%d", index) }

// specification is a CDI specification, as far as it is used: github.com/cncf-tags/container-device-interface.
type specification struct {
	Version        string   `json:"cdiVersion"`
	Kind           string   `json:"kind"`
	Devices        []device `json:"devices"`
	ContainerEdits edits    `json:"containerEdits"`
}

type device struct {
	Name           string `json:"name"`
	ContainerEdits edits  `json:"containerEdits"`
}

type edits struct {
	Env         []string     `json:"env,omitempty"`
	DeviceNodes []deviceNode `json:"deviceNodes,omitempty"`
	Mounts      []mount      `json:"mounts,omitempty"`
}

type deviceNode struct {
	Path string `json:"path"`
}

type mount struct {
	HostPath      string   `json:"hostPath"`
	ContainerPath string   `json:"containerPath"`
	Options       []string `json:"options"`
}

// Specs returns the CDI specifications of a node by their files' names: what "nvidia-ctk cdi generate" would of it, each
// GPU by its UUID and all of them as "all", and what the GPU operator's toolkit would for pods that manage GPUs, just
// "all". With any device come the control device and the driver's library. driverDir is where the node has DriverDir;
// the containers get it at the same place, and the library where every dynamic linker finds it.
func Specs(state *nvmlmock.State, driverDir string) map[string]any {
	spec := specification{Version: "0.6.0", Kind: "nvidia.com/gpu"}
	var all edits
	for i := range state.GPUs {
		node := deviceNode{Device(i)}
		all.DeviceNodes = append(all.DeviceNodes, node)
		spec.Devices = append(spec.Devices, device{state.GPUs[i].UUID, edits{DeviceNodes: []deviceNode{node}}})
	}
	spec.Devices = append(spec.Devices, device{"all", all})
	options := []string{"ro", "nosuid", "nodev", "rbind", "rprivate"}
	spec.ContainerEdits = edits{
		Env:         []string{nvmlmock.EnvState + "=" + filepath.Join(driverDir, StateFile)},
		DeviceNodes: []deviceNode{{"/dev/nvidiactl"}},
		Mounts: []mount{
			{driverDir, driverDir, options},
			{filepath.Join(driverDir, nvmlmock.LibraryName), "/usr/lib/" + nvmlmock.LibraryName, options},
		},
	}
	management := spec
	management.Kind, management.Devices = "management.nvidia.com/gpu", spec.Devices[len(spec.Devices)-1:]
	return map[string]any{"nvidia.json": spec, "management.nvidia.com-gpu.json": management}
}
