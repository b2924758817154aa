// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// IsSilent says whether a node is out of the question only because its agent does not report.
func IsSilent(r alloc.Reason) bool {
	return r == gpustate.ReasonStaleReport || r == gpustate.ReasonNoReport
}

// IsPassing says whether a node is out of the question only until its agent tells more.
func IsPassing(r alloc.Reason) bool { return IsSilent(r) || r == gpustate.ReasonUnreportedDevicePod }
