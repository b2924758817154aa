// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"slices"
	"strings"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// allForms are those of the environment, the preferred one first, and that of NRI.
var allForms = []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI, berthv1alpha1.DeviceFormUUID, berthv1alpha1.DeviceFormNRI}

// RuntimesOf returns what the runtimes of a node take: what the agent found in files, and over it what pods have shown.
func RuntimesOf(h *berthv1alpha1.HandOff) []berthv1alpha1.RuntimeHandOff {
	if h == nil || len(h.Shown) == 0 {
		if h == nil {
			return nil
		}
		return h.Runtimes
	}
	out := make([]berthv1alpha1.RuntimeHandOff, 0, len(h.Runtimes)+1)
	for i := range h.Runtimes {
		out = append(out, *h.Runtimes[i].DeepCopy())
	}
	for i := range h.Shown {
		f := &h.Shown[i]
		if f.Works || slices.ContainsFunc(out, func(r berthv1alpha1.RuntimeHandOff) bool { return r.Handler == f.Handler }) {
			continue
		}
		// Of this handler the files say nothing, and one form does not work. That one works says nothing of the other.
		r := berthv1alpha1.RuntimeHandOff{Handler: f.Handler}
		if f.Form != berthv1alpha1.DeviceFormNRI {
			r.Accepts = slices.Clone(allForms[:2])
		}
		out = append(out, r)
	}
	for i := range out {
		for _, form := range allForms {
			applyShown(&out[i], form, h.Shown)
		}
	}
	slices.SortFunc(out, func(a, b berthv1alpha1.RuntimeHandOff) int { return strings.Compare(a.Handler, b.Handler) })
	return out
}

func applyShown(r *berthv1alpha1.RuntimeHandOff, form berthv1alpha1.DeviceForm, shown []berthv1alpha1.ShownForm) {
	i := slices.IndexFunc(shown, func(f berthv1alpha1.ShownForm) bool { return f.Handler == r.Handler && f.Form == form })
	switch {
	case i < 0:
	case !shown[i].Works:
		r.Accepts = slices.DeleteFunc(r.Accepts, func(f berthv1alpha1.DeviceForm) bool { return f == form })
		r.Message = shown[i].Message
	case !slices.Contains(r.Accepts, form):
		r.Accepts = append(r.Accepts, form)
		r.Message = shown[i].Message
	}
}
