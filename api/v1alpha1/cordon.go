// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// EachCordonedGPU ranges over the UUIDs that a node's annotation names, as they are written.
func EachCordonedGPU(node *corev1.Node) iter.Seq[string] {
	value := node.Annotations[AnnotationCordonedGPUs]
	return func(yield func(string) bool) {
		for uuid := range strings.SplitSeq(value, ",") {
			if uuid = strings.TrimSpace(uuid); uuid != "" && !yield(uuid) {
				return
			}
		}
	}
}

// CordonedGPUs returns the annotation's value with some UUIDs more, or fewer; empty = the annotation is to go. Equal sets
// have equal values.
func CordonedGPUs(node *corev1.Node, more, fewer []string) string {
	uuids := append(slices.Collect(EachCordonedGPU(node)), more...)
	uuids = slices.DeleteFunc(uuids, func(uuid string) bool { return slices.Contains(fewer, uuid) })
	slices.Sort(uuids)
	return strings.Join(slices.Compact(uuids), ",")
}

// Find returns the device that a UUID, or an index of the driver, names. MIG instances have no index of their own.
func (s *GPUNodeStatus) Find(name string) (*GPUDevice, error) {
	index, err := strconv.ParseInt(name, 10, 32)
	var known []string
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.UUID == name || err == nil && int64(d.Index) == index && d.Parent == "" {
			return d, nil
		}
		known = append(known, fmt.Sprintf("%s (%d)", d.UUID, d.Index))
	}
	return nil, fmt.Errorf("no GPU %q: it has %s", name, strings.Join(known, ", "))
}
