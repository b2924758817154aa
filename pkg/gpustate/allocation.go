// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
)

// allocationVersion is the version of the annotation that this package writes. A reader that does not know the
// version of an allocation still knows its devices, and charges them whole.
const allocationVersion = 1

// Allocation is what a bound pod was given: the content of the annotation berth.dev/allocation.
type Allocation struct {
	// Devices are the devices and the memory booked on each, in the order in which the engine sees them.
	Devices []alloc.DeviceShare
	// Parents[i] is the UUID of the GPU that Devices[i] is a MIG instance of; empty for a GPU. Nil if all are GPUs.
	Parents []string
	// Whole says that the annotation is of a version that this process does not know: what is booked on its devices
	// is not known either, so they are charged whole.
	Whole bool
	// TensorParallelSize was told to the engine.
	TensorParallelSize int
	// Runtime decides how the pod behaves while it loads.
	Runtime berthv1alpha1.Runtime
	// Correction is how much of the memory on each device is booked beyond the estimate, because earlier pods held more.
	Correction alloc.Bytes
}

type allocationJSON struct {
	Version            int                    `json:"version"`
	Devices            []allocationDeviceJSON `json:"devices"`
	TensorParallelSize int                    `json:"tensorParallelSize,omitempty"`
	Runtime            berthv1alpha1.Runtime  `json:"runtime,omitempty"`
	// Correction is in bytes, as a string.
	Correction string `json:"correction,omitempty"`
}

type allocationDeviceJSON struct {
	UUID string `json:"uuid"`
	// Parent is the GPU of a MIG instance, which is charged when the instance is gone.
	Parent string `json:"parent,omitempty"`
	// Memory is in bytes, as a string: a JSON number may pass through a float.
	Memory string `json:"memory"`
}

// EncodeAllocation returns the value of the annotation berth.dev/allocation.
func EncodeAllocation(a *Allocation) (string, error) {
	out := allocationJSON{
		Version:            allocationVersion,
		Devices:            make([]allocationDeviceJSON, len(a.Devices)),
		TensorParallelSize: a.TensorParallelSize,
		Runtime:            a.Runtime,
	}
	if !a.Correction.IsZero() {
		out.Correction = strconv.FormatUint(a.Correction.Uint64(), 10)
	}
	for i, d := range a.Devices {
		out.Devices[i] = allocationDeviceJSON{UUID: d.UUID, Parent: a.parentOf(i), Memory: strconv.FormatUint(d.Memory.Uint64(), 10)}
	}
	b, err := json.Marshal(&out)
	return string(b), err
}

// DecodeAllocation reads the annotation berth.dev/allocation. It fails on anything that leaves open which devices
// are booked, or how much: the pod is then one whose allocation could not be read.
func DecodeAllocation(s string) (*Allocation, error) {
	var header struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal([]byte(s), &header); err != nil {
		return nil, fmt.Errorf("allocation: %w", err)
	}
	switch {
	case header.Version < 1:
		return nil, errors.New("allocation: no version")
	case header.Version != allocationVersion:
		return decodeUnknownVersion(s)
	}
	var in allocationJSON
	if err := json.Unmarshal([]byte(s), &in); err != nil {
		return nil, fmt.Errorf("allocation: %w", err)
	}
	a := &Allocation{
		Devices: make([]alloc.DeviceShare, len(in.Devices)), TensorParallelSize: in.TensorParallelSize, Runtime: in.Runtime,
	}
	for i, d := range in.Devices {
		memory, err := strconv.ParseUint(d.Memory, 10, 63)
		if err != nil || memory == 0 {
			return nil, fmt.Errorf("allocation: memory %q of device %q is not a number of bytes above zero", d.Memory, d.UUID)
		}
		a.Devices[i] = alloc.DeviceShare{UUID: d.UUID, Memory: alloc.BytesOf(memory)}
		a.setParent(i, d.Parent)
	}
	if correction, err := strconv.ParseUint(in.Correction, 10, 63); err == nil { // else none: nothing is booked by it
		a.Correction = alloc.BytesOf(correction)
	}
	return readable(a)
}

// decodeUnknownVersion reads nothing but the devices, which every version names: their memory may be written in
// another way.
func decodeUnknownVersion(s string) (*Allocation, error) {
	var in struct {
		Devices []struct {
			UUID   string `json:"uuid"`
			Parent string `json:"parent"`
		} `json:"devices"`
	}
	if err := json.Unmarshal([]byte(s), &in); err != nil {
		return nil, fmt.Errorf("allocation: %w", err)
	}
	a := &Allocation{Devices: make([]alloc.DeviceShare, len(in.Devices)), Whole: true}
	for i, d := range in.Devices {
		a.Devices[i].UUID = d.UUID
		a.setParent(i, d.Parent)
	}
	return readable(a)
}

// readable returns the allocation if it has devices that can be told apart.
func readable(a *Allocation) (*Allocation, error) {
	if len(a.Devices) == 0 || len(a.Devices) > alloc.MaxDevices {
		return nil, fmt.Errorf("allocation: %d devices, want 1 to %d", len(a.Devices), alloc.MaxDevices)
	}
	for i := range a.Devices {
		uuid := a.Devices[i].UUID
		if uuid == "" || slices.ContainsFunc(a.Devices[:i], func(o alloc.DeviceShare) bool { return o.UUID == uuid }) {
			return nil, fmt.Errorf("allocation: device %d has no UUID of its own", i)
		}
	}
	return a, nil
}

// setParent notes that device i is a MIG instance of a GPU, if it is of any.
func (a *Allocation) setParent(i int, parent string) {
	if parent == "" {
		return
	}
	if a.Parents == nil {
		a.Parents = make([]string, len(a.Devices))
	}
	a.Parents[i] = parent
}

// parentOf returns the GPU that device i is a MIG instance of, or nothing.
func (a *Allocation) parentOf(i int) string {
	if a.Parents == nil {
		return ""
	}
	return a.Parents[i]
}

// UUIDs returns the value of the annotation berth.dev/gpu-uuids: the bare UUIDs, with commas between them.
func (a *Allocation) UUIDs() string {
	uuids := make([]string, len(a.Devices))
	for i, d := range a.Devices {
		uuids[i] = d.UUID
	}
	return strings.Join(uuids, ",")
}

// String formats a for people: "30Gi on GPU-aaa, 34Gi on GPU-bbb".
func (a *Allocation) String() string {
	parts := make([]string, len(a.Devices))
	for i, d := range a.Devices {
		parts[i] = d.Memory.String() + " on " + d.UUID
		if a.Whole {
			parts[i] = "all of " + d.UUID
		}
	}
	return strings.Join(parts, ", ")
}

// BookedOn returns what a pod's annotation books, in bytes by device; nil if it has none, and zero where an allocation
// of a later version does not tell.
func BookedOn(pod *corev1.Pod) (map[string]uint64, error) {
	value, ok := pod.Annotations[berthv1alpha1.AnnotationAllocation]
	if !ok {
		return nil, nil
	}
	allocation, err := DecodeAllocation(value)
	if err != nil {
		return nil, err
	}
	devices := make(map[string]uint64, len(allocation.Devices))
	for _, d := range allocation.Devices {
		devices[d.UUID] = d.Memory.Uint64()
	}
	return devices, nil
}
