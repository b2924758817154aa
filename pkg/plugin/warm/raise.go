// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package warm

import "github.com/berth-dev/berth/pkg/alloc"

// Level is how warm a place is, 0 to 100.
type Level int64

const (
	// Cold: nothing is known of it.
	Cold Level = 0
	// Files: what the pod loads may be on the node, in a cache on its disk or in its memory.
	Files Level = 50
	// GPUs: on these very GPUs it ran, or sleeps.
	GPUs Level = 100
)

// Raise returns the score of a place that is so warm, by a weight of 0 to 100; 0 changes no score. It takes the score a part of the
// way to the best one of its band: weight × level / (100 + weight × level), that is half of the way for GPUs by weight 1, a third
// for Files. Bands are those of alloc.Score, so that fewer devices win over more, however warm these are.
//
// One point at the top of each band is for warm places: a cold one scores at most one less. Else models that fill GPUs,
// which fit as well anywhere, would all have the best score already.
func Raise(score int64, level Level, weight int64) int64 {
	top := topOf(score)
	if weight == 0 || top-top/2 < 2 {
		return score // or the band has one score
	}
	score = min(score, top-1)
	if level == Cold {
		return score
	}
	return score + max(Part(top-score, level, weight), 1)
}

// Part returns how much of a way a place that is so warm goes up.
func Part(way int64, level Level, weight int64) int64 {
	warmth := weight * int64(level)
	return way * warmth / (100 + warmth)
}

// topOf returns the best score of the band that a score is in.
func topOf(score int64) int64 {
	top := int64(alloc.MaxScore)
	for score <= top/2 && top > 0 {
		top /= 2
	}
	return top
}
