// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package testing

import berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"

// Runtime reports a runtime handler of the node and the forms in which it takes GPUs; none = it takes none.
func (g *GPUNode) Runtime(handler string, accepts ...berthv1alpha1.DeviceForm) *GPUNode {
	if g.Status.HandOff == nil {
		g.Status.HandOff = &berthv1alpha1.HandOff{}
	}
	g.Status.HandOff.Runtimes = append(g.Status.HandOff.Runtimes, berthv1alpha1.RuntimeHandOff{Handler: handler, Accepts: accepts})
	return g
}

// Message sets what is said of the runtime handler added last.
func (g *GPUNode) Message(text string) *GPUNode {
	r := g.Status.HandOff.Runtimes
	r[len(r)-1].Message = text
	return g
}

// Copy returns a builder that goes on from here, and leaves this one as it is.
func (g *GPUNode) Copy() *GPUNode { return &GPUNode{*g.Obj()} }
