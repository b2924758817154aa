// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package verdicts

import (
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
)

// explainHandOff says, for people, what is in the way on the first node whose container runtime takes no GPUs, or no memory limit; empty if
// there is none.
func (r Reader) explainHandOff(s *cycle.State, m fwk.NodeToStatusReader) string {
	for _, ni := range r.toExplain(m, fwk.UnschedulableAndUnresolvable) {
		report, _ := s.Viewer.Snapshot.Report(ni.Node().Name, 0)
		note := ""
		switch _, reason := s.FormOn(ni); reason {
		case gpustate.ReasonNoHandOff:
			note = report.HandOffNote(s.HandOff.Handler)
		case gpustate.ReasonLimitsFail:
			note = report.LimitsNote(s.HandOff.Handler)
		}
		if note != "" {
			return "on node " + ni.Node().Name + ": " + note
		}
	}
	return ""
}
