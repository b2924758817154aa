// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package feed

import (
	"k8s.io/client-go/tools/cache"

	"github.com/berth-dev/berth/pkg/plugin/faults"
	"github.com/berth-dev/berth/pkg/plugin/follow"
	"github.com/berth-dev/berth/pkg/plugin/mix"
	"github.com/berth-dev/berth/pkg/plugin/shared"
	"github.com/berth-dev/berth/pkg/plugin/wake"
	"github.com/berth-dev/berth/pkg/plugin/warm"
)

// Feed is what the informers tell.
type Feed struct {
	*shared.World
	Wake   *wake.Waker
	Follow *follow.Follower
	Faults *faults.Watcher
	Mix    *mix.Book
	Warm   *warm.Book
	// Synced are the informers that the books need.
	Synced []cache.InformerSynced
}
