// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package mix

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// most is how much of what is asked for the kinds of a mix stand for, in percent, the most frequent first: what is asked for once
// says little of what will be.
const most = 95

// made returns the mix of what is counted.
func (b *Book) made() *gpustate.Mix {
	var kinds []alloc.Kind
	var nodes []*nodeaffinity.RequiredNodeAffinity
	for _, k := range b.frequent() {
		c := b.kinds[k]
		kinds = append(kinds, alloc.Kind{Devices: k.devices, Share: k.share, Host: k.host, Count: c.pods})
		nodes = append(nodes, c.nodes)
	}
	return gpustate.NewMix(kinds, nodes)
}

// frequent returns the kinds that a mix has.
func (b *Book) frequent() []kind {
	all, pods := b.inOrder(), 0
	for i, k := range all {
		if pods*100 >= most*len(b.of) || i == alloc.MaxKinds {
			return all[:i]
		}
		pods += b.kinds[k].pods
	}
	return all
}

// inOrder returns all kinds, the most frequent first.
func (b *Book) inOrder() []kind {
	return slices.SortedFunc(maps.Keys(b.kinds), func(x, y kind) int {
		return cmp.Or(cmp.Compare(b.kinds[y].pods, b.kinds[x].pods), x.compare(y))
	})
}

// compare puts kinds in an order.
func (k kind) compare(o kind) int {
	return cmp.Or(
		cmp.Compare(k.devices, o.devices), k.share.Compare(o.share), cmp.Compare(k.host.CPU, o.host.CPU),
		k.host.Memory.Compare(o.host.Memory), strings.Compare(k.where, o.where),
	)
}

// where returns on which nodes a pod may be by its own choice, as text; empty = on all.
func where(pod *corev1.Pod) string {
	var required *corev1.NodeSelector
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		required = a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	if len(pod.Spec.NodeSelector) == 0 && required == nil {
		return ""
	}
	text, err := json.Marshal([]any{pod.Spec.NodeSelector, required}) // the keys of a map in order
	if err != nil {
		return "" // it never fails on these
	}
	return string(text)
}
