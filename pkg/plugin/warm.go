// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/requests"
	"github.com/berth-dev/berth/pkg/plugin/warm"
)

// warmFor returns what a cycle of a pod goes by to prefer warm places. Where what it loads was loaded nowhere, that is one look-up.
func (pl *Plugin) warmFor(pod *corev1.Pod, r *requests.Resolved) cycle.Warm {
	if pl.warm == nil {
		return cycle.Warm{}
	}
	loads := warm.LoadsOf(pod, r.Model)
	return cycle.Warm{
		Weight: int64(*pl.args.WarmWeight), Loads: loads, Places: pl.warm.Of(loads.Key), Namespace: pod.Namespace, FileSize: alloc.BytesOfInt64(r.FileSize),
	}
}

// tellWarm says what the pod gains by a warm place; nothing of a cold one.
func (pl *Plugin) tellWarm(s *cycle.State, view *gpustate.View, a *alloc.Allocation, w *warm.Warmth, level warm.Level) string {
	if level == warm.Cold {
		return ""
	}
	return "; warm: " + w.Tell(&view.Node, a, level, s.Warm.Loads.Noun, s.Warm.FileSize, pl.clock.Now())
}
