// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"k8s.io/component-base/metrics"

	"github.com/berth-dev/berth/pkg/plugin/claims"
	"github.com/berth-dev/berth/pkg/plugin/preempt"
	"github.com/berth-dev/berth/pkg/plugin/shared"
	"github.com/berth-dev/berth/pkg/plugin/wake"
)

// Follower follows claims. It is safe for concurrent use.
type Follower struct {
	*shared.World
	Wake    *wake.Waker
	Evictor *preempt.Evictor
	Claims  *claims.Book
	// Dropped counts the claims that were given up, by reason.
	Dropped *metrics.CounterVec
	// EvictionToBind is how long victims took to make room, in seconds.
	EvictionToBind *metrics.Histogram
}
