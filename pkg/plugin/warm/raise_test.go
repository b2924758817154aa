// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package warm

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-dev/berth/pkg/alloc"
)

func TestRaise(t *testing.T) {
	for _, tc := range []struct {
		name   string
		score  int64
		level  Level
		weight int64
		want   int64
	}{
		{"warm GPUs go half of the way by weight 1", 60, GPUs, 1, 60 + 40/2},
		{"files a third", 60, Files, 1, 60 + 40/3},
		{"more by a larger weight: 10 parts of 11", 60, GPUs, 10, 60 + 400/11},
		{"the cold stay", 60, Cold, 1, 60},
		{"by weight 0 nothing changes", 60, GPUs, 0, 60},
		{"not the best, either", 100, Cold, 0, 100},
		{"the best cold one leaves a point", 100, Cold, 1, 99},
		{"for one that fits as well, and is warm", 100, Files, 1, 100},
		{"two GPUs, however warm, stay below one", 50, GPUs, 100, 50},
		{"and rise among themselves", 30, GPUs, 1, 30 + 20/2},
		{"the best cold ones of two leave a point as well", 50, Cold, 1, 49},
		{"a band of two scores", 2, GPUs, 1, 3},
		{"a band of one score", 1, GPUs, 1, 1},
		{"nothing fits", 0, GPUs, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Raise(tc.score, tc.level, tc.weight); got != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
		})
	}
}

// TestRaiseKeepsOrder: what is better, warmer or of more weight is never worse for it, nothing leaves its band, the cold keep their
// scores but for the best of a band, and of two that are equally good the warm one wins, where a band has two scores.
func TestRaiseKeepsOrder(t *testing.T) {
	levels := []Level{Cold, Files, GPUs}
	rapid.Check(t, func(t *rapid.T) {
		score := rapid.Int64Range(0, alloc.MaxScore).Draw(t, "score")
		better := rapid.Int64Range(score, alloc.MaxScore).Draw(t, "better")
		weight := rapid.Int64Range(1, 100).Draw(t, "weight")
		heavier := rapid.Int64Range(weight, 100).Draw(t, "heavier")
		i := rapid.IntRange(0, 2).Draw(t, "level")
		level := levels[i]
		warmer := levels[rapid.IntRange(i, 2).Draw(t, "warmer")]
		got := Raise(score, level, weight)
		switch top := topOf(score); {
		case Raise(better, level, weight) < got:
			t.Fatal("the better score is worse")
		case Raise(score, warmer, weight) < got:
			t.Fatal("the warmer one is worse")
		case Raise(score, level, heavier) < got:
			t.Fatal("the heavier one is worse")
		case got < 0 || topOf(got) != top:
			t.Fatalf("%d became %d, of another band", score, got)
		case level == Cold && got != score && (score != top || got != score-1):
			t.Fatalf("%d became %d in the cold", score, got)
		case level != Cold && top-top/2 > 1 && got <= Raise(score, Cold, weight):
			t.Fatalf("warm %d is not above cold", got)
		case Raise(score, level, 0) != score:
			t.Fatal("weight 0 changes it")
		}
	})
}

// TestBandsAreThoseOfScore: see alloc.Score.
func TestBandsAreThoseOfScore(t *testing.T) {
	for score, want := range map[int64]int64{100: 100, 51: 100, 50: 50, 26: 50, 25: 25, 13: 25, 12: 12, 7: 12, 6: 6, 4: 6, 3: 3, 2: 3, 1: 1, 0: 0} {
		if got := topOf(score); got != want {
			t.Errorf("the band of %d ends at %d, want %d", score, got, want)
		}
	}
}
