// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
)

// views are all of them, each as its picture in the docs has it.
var views = []struct{ name, address string }{
	{"fleet", "#/fleet"},
	{"lines", "#/fleet?show=lines"},
	{"node", "#/nodes/h100-0"},
	{"pods", "#/pods"},
	{"pod", "#/pods/chat/deepseek-70b-0"},
	{"waiting", "#/waiting"},
	{"what-if", "#/what-if?mode=form&gpuMemory=60Gi&gpuCount=1&replicas=2&priority=5000&run=1"},
	{"evictions", "#/evictions"},
	{"models", "#/models"},
	{"usage", "#/usage"},
}

// pictures are those of the docs. UPDATE=1 writes them; nothing compares them, since fonts are not the same on two machines.
const pictures = "../../docs/pictures"

// TestViews looks at each view as people see it: wide and narrow, by day and by night. Nothing sticks out, the browser has no
// complaint, and axe-core finds nothing that keeps anyone from using it.
func TestViews(t *testing.T) {
	s := serve(t, smallFile(t))
	for _, screen := range []screen{wide, narrow, {"1280-dark", 1280, 900, true}} {
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

// picture writes what the page looks like.
func (b *tab) picture(file string) {
	b.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.Fatal(err)
	}
	if text, err = smaller(text); err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// smaller gives a picture at most 256 colours: for each shade that 5 bits of red, green and blue tell apart the commonest colour of it,
// for the commonest shades; and the nearest of these instead of any other.
func smaller(text []byte) ([]byte, error) {
	full, err := png.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	count, ofShade := map[color.RGBA]int{}, map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(full.At(x, y)).(color.RGBA) }
	shade := func(c color.RGBA) color.RGBA { return color.RGBA{c.R >> 3, c.G >> 3, c.B >> 3, 0} }
	size := full.Bounds()
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			c := at(x, y)
			count[c]++
			ofShade[shade(c)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(ofShade[shade(b)], ofShade[shade(a)]), cmp.Compare(count[b], count[a]))
	})
	var palette color.Palette
	taken := map[color.RGBA]bool{}
	for _, c := range colours {
		if !taken[shade(c)] && len(palette) < 256 {
			palette, taken[shade(c)] = append(palette, c), true
		}
	}
	nearest := map[color.RGBA]uint8{}
	for _, c := range colours {
		nearest[c] = uint8(palette.Index(c))
	}
	small := image.NewPaletted(size, palette)
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			small.SetColorIndex(x, y, nearest[at(x, y)])
		}
	}
	var out bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small)
	return out.Bytes(), err
}

// TestShippedSnapshot opens what make ui opens.
func TestShippedSnapshot(t *testing.T) {
	b := openTab(t, wide)
	b.visit(serve(t, "../../hack/look/cluster.json.gz").at("#/fleet"))
	if got := len(b.rows(".gpus")); got < 16 {
		t.Errorf("%d rows of GPUs", got)
	}
	b.click(".figures a", "2 pods")
	b.shows("no node has GPUs that could ever hold the requested memory: 4 GPUs: needs 202.5Gi on one, the largest that could fit is 78.9Gi")
	b.noComplaints()
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
