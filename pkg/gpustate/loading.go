// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"time"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Mismeasure says whether pods of two runtimes must not load on one device at a time.
func Mismeasure(a, b berthv1alpha1.Runtime) bool { return mismeasures(a, b) }

// KeepsOff says whether a booking keeps a pod of a runtime from its devices at a moment, because its own pod loads.
func (e *Entry) KeepsOff(newcomer berthv1alpha1.Runtime, loadTimeout time.Duration, now time.Time) bool {
	switch {
	case e.State == Draining || e.State == Claimed || e.Allocation == nil || !mismeasures(newcomer, e.Allocation.Runtime):
		return false
	case e.Pod == nil:
		return true // not in the API as bound yet
	}
	until, loading := LoadingUntil(e.Pod, loadTimeout)
	return loading && (until.IsZero() || now.Before(until))
}
