// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpunode

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// The types below are those of the API with each resource.Quantity replaced by a quantity: an outer field hides the field
// of the same name in what is embedded. A test finds quantities that were forgotten.
type (
	status struct {
		berthv1alpha1.GPUNodeStatus
		Devices []device `json:"devices,omitempty"`
		Summary *summary `json:"summary,omitempty"`
	}
	summary struct {
		berthv1alpha1.GPUSummary
		Free        quantity `json:"free"`
		LargestFree quantity `json:"largestFree"`
	}
	device struct {
		berthv1alpha1.GPUDevice
		Memory    memory    `json:"memory,omitzero"`
		Processes []process `json:"processes,omitempty"`
	}
	memory struct {
		Total    quantity `json:"total,omitzero"`
		Reserved quantity `json:"reserved,omitzero"`
		Used     quantity `json:"used,omitzero"`
	}
	process struct {
		berthv1alpha1.GPUProcess
		Memory quantity `json:"memory"`
	}
)

func decodeStatus(raw []byte) (*berthv1alpha1.GPUNodeStatus, error) {
	var s status
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
	}
	out := s.GPUNodeStatus
	if s.Summary != nil {
		s.Summary.GPUSummary.Free, s.Summary.GPUSummary.LargestFree = s.Summary.Free.Quantity, s.Summary.LargestFree.Quantity
		out.Summary = &s.Summary.GPUSummary
	}
	if s.Devices != nil {
		out.Devices = make([]berthv1alpha1.GPUDevice, len(s.Devices))
	}
	for i := range s.Devices {
		out.Devices[i] = s.Devices[i].api()
	}
	return &out, nil
}

func (d *device) api() berthv1alpha1.GPUDevice {
	out := d.GPUDevice
	out.Memory = berthv1alpha1.GPUMemory{
		Total: d.Memory.Total.Quantity, Reserved: d.Memory.Reserved.Quantity, Used: d.Memory.Used.Quantity,
	}
	if d.Processes != nil {
		out.Processes = make([]berthv1alpha1.GPUProcess, len(d.Processes))
	}
	for i := range d.Processes {
		out.Processes[i] = d.Processes[i].GPUProcess
		out.Processes[i].Memory = d.Processes[i].Memory.Quantity
	}
	return out
}

// quantity is a resource.Quantity whose text is looked at before it is parsed.
type quantity struct{ resource.Quantity }

const (
	// maxQuantity is how many bytes the text of a quantity may have; the CRD says the same.
	maxQuantity = 24
	// maxExponent is how many digits its exponent may have. resource.ParseQuantity computes the power of ten: for
	// 1e-2000000000 that takes hours and gigabytes.
	maxExponent = 2
)

var errQuantity = errors.New("a quantity has at most 24 characters and an exponent of at most 2 digits")

// UnmarshalJSON implements json.Unmarshaler.
func (q *quantity) UnmarshalJSON(b []byte) error {
	if len(b) > maxQuantity+len(`""`) {
		return fmt.Errorf("quantity of %d bytes: %w", len(b), errQuantity)
	}
	text := strings.Trim(string(b), `"`)
	if i := strings.IndexAny(text, "eE"); i >= 0 && len(strings.TrimLeft(text[i+1:], "+-")) > maxExponent {
		return fmt.Errorf("quantity %q: %w", text, errQuantity)
	}
	if err := q.Quantity.UnmarshalJSON(b); err != nil {
		return fmt.Errorf("quantity %q: %w", text, err)
	}
	return nil
}
