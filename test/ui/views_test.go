// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// views are all of them, each as its picture in the docs has it.
var views = []struct{ name, address string }{
	{"fleet", "#/fleet"},
	{"lines", "#/fleet?show=lines&q=l40s"},
	{"node", "#/nodes/h100-0"},
	{"pods", "#/pods"},
	{"pod", "#/pods/chat/deepseek-70b-0"},
	{"waiting", "#/waiting"},
	{"what-if", "#/what-if?mode=form&gpuMemory=60Gi&gpuCount=1&replicas=2&priority=5000&run=1"},
	{"evictions", "#/evictions"},
	{"models", "#/models"},
	{"usage", "#/usage"},
}

// pictured are the views whose pictures the docs show; -update of other tests is UPDATE=1 here, for a browser's pictures are
// not the same on two machines and are compared by no test.
const pictures = "../../docs/pictures"

// TestViews looks at each view as people see it: wide and narrow, by day and by night. Nothing sticks out, the browser has no
// complaint, nothing keeps anyone from using it that axe-core finds, and the view is one that the page draws.
func TestViews(t *testing.T) {
	s := serve(t, smallFile(t))
	for _, screen := range []screen{wide, narrow, {"1280-dark", 1280, 900, true}, {"390-dark", 390, 844, true}} {
		for _, v := range views {
			t.Run(v.name+" "+screen.name, func(t *testing.T) {
				b := openTab(t, screen)
				b.visit(s.at(v.address))
				b.fits()
				b.accessible()
				if os.Getenv("UPDATE") != "" && (!screen.dark || v.name == "fleet") {
					b.picture(filepath.Join(pictures, "ui-"+v.name+"-"+screen.name+".png"))
				}
				b.noComplaints()
			})
		}
	}
}

// fits fails if the page is wider than the screen.
func (b *tab) fits() {
	b.Helper()
	if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		b.Errorf("the page is %d px wider than the screen, by %s", over, eval[string](b, `[...document.querySelectorAll('main *')]
			.filter((e) => e.getBoundingClientRect().right > innerWidth).map((e) => e.tagName + '.' + e.className).slice(0, 5).join(', ')`))
	}
}

func (b *tab) picture(file string) {
	b.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// TestZoom looks at each view as at 200 % on a screen of 1280 px: that of 640 px.
func TestZoom(t *testing.T) {
	s := serve(t, smallFile(t))
	for _, v := range views {
		t.Run(v.name, func(t *testing.T) {
			b := openTab(t, screen{"640", 640, 450, false})
			b.visit(s.at(v.address))
			b.fits()
		})
	}
}
