// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// TestLargeFleet shows 500 nodes of 8 GPUs: only what is on the screen and near it is drawn. How long that takes is told, and not
// asserted: it is the machine's.
func TestLargeFleet(t *testing.T) {
	s := serve(t, largeFile(t))
	s.ask(t, "GET", "/map", nil) // the file is read
	for _, show := range []string{"lines", "cards"} {
		t.Run(show, func(t *testing.T) {
			b := openTab(t, wide)
			b.do(chromedp.Navigate(s.at("#/fleet?show=" + show)))
			b.until(`document.querySelector('.node .bar, .line .bar')`)
			opened := eval[float64](b, `performance.getEntriesByName('fleet drawn')[0].startTime`)
			t.Logf("the fleet was drawn %.0f ms after the page was asked for", opened)
			if got := eval[int](b, `document.querySelectorAll('.node, .line:not(.head)').length`); got != 500 {
				t.Fatalf("%d nodes", got)
			}
			// A node far away is its name; one that is near, some tens of elements.
			bounded := func(where string) {
				t.Helper()
				b.until(`document.querySelectorAll('*').length <= 8000 && document.querySelectorAll('.node .bar, .line .bar').length <= 600`)
				all := eval[int](b, `document.querySelectorAll('*').length`)
				bars := eval[int](b, `document.querySelectorAll('.node .bar, .line .bar').length`)
				t.Logf("%s: %d elements, %d of 4000 bars", where, all, bars)
			}
			bounded("at the top")
			frames := eval[[]float64](b, `new Promise((resolve) => {
				const times = [];
				let last = performance.now(), y = 0;
				const step = (now) => {
					times.push(now - last);
					last = now;
					scrollTo(0, y += 250);
					if (times.length < 240 && y < document.documentElement.scrollHeight) requestAnimationFrame(step);
					else resolve(times.slice(1).sort((a, b) => a - b));
				};
				requestAnimationFrame(step);
			})`)
			at := func(share float64) float64 { return frames[int(share*float64(len(frames)-1))] }
			t.Logf("scrolled by 250 px a frame: %d frames, half of them within %.0f ms, 95 %% within %.0f ms, all within %.0f ms", len(frames), at(0.5), at(0.95), at(1))
			eval[bool](b, `(scrollTo(0, document.documentElement.scrollHeight), true)`)
			b.until(`[...document.querySelectorAll('.node, .line')].at(-1).querySelector('.bar')`)
			bounded("at the bottom")
			b.fill("Find nodes, pods, models", "n123")
			b.until(`document.querySelectorAll('.node, .line:not(.head)').length === 1`)
			b.noComplaints()
		})
	}
	t.Run("pods", func(t *testing.T) {
		b := openTab(t, wide)
		b.visit(s.at("#/pods"))
		if got := len(b.rows("table.rows")); got != 200 {
			t.Errorf("%d rows are drawn at first", got)
		}
		b.click("button", "Show 200 more of")
		if got := len(b.rows("table.rows")); got != 400 {
			t.Errorf("%d rows are drawn then", got)
		}
	})
}
