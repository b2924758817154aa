// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"math/bits"
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// cordoned tells of single GPUs that are cordoned, and of what nodes' annotations name that their reports do not have.
func (c *judge) cordoned() (out []Result) {
	var gpus, nodes, strangers, stuck, lines []string
	for i := range c.Nodes {
		node := &c.Nodes[i]
		known, unknown := c.cordonedOn(node)
		if len(known) > 0 {
			gpus, nodes = append(gpus, known...), append(nodes, node.Name)
		}
		if len(unknown) > 0 {
			strangers, stuck = append(strangers, listed(unknown)+" of "+node.Name), append(stuck, node.Name)
			lines = append(lines, "kubectl berth uncordon "+node.Name+" --gpu "+strings.Join(unknown, ","))
		}
	}
	if len(gpus) > 0 {
		out = append(out, warning(idCordoned, "%s cordoned, so that no new pod gets them: %s", are(len(gpus), "GPU"), shortened(gpus)).of(nodes...).
			run("kubectl berth top "+strings.Join(nodes[:min(len(nodes), maxListed)], " ")+" -o wide").see(pageCordoned))
	}
	if len(strangers) > 0 {
		out = append(out, warning(idCordoned, "the annotation %s names what the node's report does not have, and keeps no pod off: %s", berthv1alpha1.AnnotationCordonedGPUs, shortened(strangers)).
			of(stuck...).run(lines[:min(len(lines), maxListed)]...).see(pageCordoned))
	}
	return out
}

// cordonedOn returns what a node's annotation names: "GPU 1 of gpu-a", and, as it is written, what the node's report does not
// have. Of a node whose report is not known, nothing is said.
func (c *judge) cordonedOn(node *corev1.Node) (known, unknown []string) {
	report, _ := c.viewer.Snapshot.Report(node.Name, 0)
	if report == nil {
		return nil, nil
	}
	on, unknown := report.Cordoned(node)
	for ; on != 0; on &= on - 1 {
		known = append(known, fmt.Sprintf("GPU %d of %s", report.Devices[bits.TrailingZeros64(on)].Index, node.Name))
	}
	return distinct(known), distinct(unknown)
}
