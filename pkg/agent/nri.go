// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Specification is the CDI specification by whose names an NRI plugin adds GPUs to containers.
type Specification interface {
	// Update makes it have the GPUs of a node, whose device nodes it is given by UUID.
	Update(files map[string]string) error
	// Without returns the pods whose containers, as far as they run, were made without what it adds: most of a node's.
	Without() []types.UID
}

const (
	// specificationInterval is how often the specification and the pods that were made by it are looked at.
	specificationInterval = 10 * time.Second
	modeNRI               = "nri"
	// maxWithout is the API's limit.
	maxWithout = 256
)

// nri is what is known of a node where GPUs are handed over by an NRI plugin. It is the observer's alone.
type nri struct {
	lookedAt time.Time
	gpus     int
	err      error
	// without are pods that were made without any.
	without []types.UID
}

// update looks at the specification again now and then.
func (n *nri) update(a *Agent, r *Reading) {
	spec, now := a.opts.Specification, a.opts.Clock.Now()
	if spec == nil {
		return
	}
	if since := now.Sub(n.lookedAt); !n.lookedAt.IsZero() && 0 <= since && since < specificationInterval {
		return
	}
	n.lookedAt = now
	files := map[string]string{}
	for i := range r.Devices {
		// Instances of MIG need more than device nodes, which is not known here.
		if d := &r.Devices[i]; d.Parent == "" && d.Minor != nil && d.Reason == "" {
			files[d.UUID] = fmt.Sprintf("/dev/nvidia%d", *d.Minor)
		}
	}
	n.gpus, n.err = len(files), spec.Update(files)
	n.without = nil
	if n.err == nil {
		n.without = spec.Without()
		slices.Sort(n.without)
		n.without = n.without[:min(len(n.without), maxWithout)]
	}
}

// addTo adds to what the files say that pods without a RuntimeClass are given GPUs by NRI, unless the node's default
// runtime gives them some by itself.
func (n *nri) addTo(files []berthv1alpha1.RuntimeHandOff) []berthv1alpha1.RuntimeHandOff {
	r := berthv1alpha1.RuntimeHandOff{Mode: modeNRI}
	if n.err != nil {
		r.Message = "no CDI specification could be written: " + n.err.Error()
	} else {
		r.Accepts = []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormNRI}
		r.Message = fmt.Sprintf("the agent's CDI specification names %d GPUs, for an NRI plugin to add", n.gpus)
		r.MemoryLimits = &berthv1alpha1.MemoryLimits{State: berthv1alpha1.MemoryLimitIgnored, Message: "the agent's CDI specification has no hook that reads it"}
	}
	out := slices.Clone(files)
	i := slices.IndexFunc(out, func(f berthv1alpha1.RuntimeHandOff) bool { return f.Handler == "" })
	switch {
	case i < 0:
		out = append(out, r)
	case len(out[i].Accepts) == 0:
		out[i] = r
	}
	return out
}
