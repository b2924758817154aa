// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// click clicks on the element, or link, whose text begins so.
func (b *tab) click(selector, text string) {
	b.Helper()
	found := fmt.Sprintf(`[...document.querySelectorAll(%q)].find((e) => e.innerText.trim().startsWith(%q))`, selector, text)
	b.until(found)
	eval[bool](b, fmt.Sprintf(`(%s.click(), true)`, found))
	b.settled()
}

// fill types into the field with a label.
func (b *tab) fill(label, value string) {
	b.Helper()
	eval[bool](b, fmt.Sprintf(`(() => {
		const field = [...document.querySelectorAll('label')].find((l) => l.innerText === %q).control;
		field.focus();
		field.select?.();
		return true;
	})()`, label))
	b.do(chromedp.KeyEvent(value))
}

// TestFromTheFleetToAnAnswer goes the way of someone whose pod waits: find it, read why, change the question until it fits.
func TestFromTheFleetToAnAnswer(t *testing.T) {
	s := serve(t, smallFile(t))
	for _, screen := range []screen{wide, narrow} {
		t.Run(screen.name, func(t *testing.T) {
			b := openTab(t, screen)
			b.visit(s.at("#/fleet"))
			b.click(".figures a", "4 pods")
			if got := b.text("h1"); got != "Waiting" {
				t.Fatalf("the view is %q", got)
			}
			b.click(".waiting h2 a", "chat/deepseek-70b-0")
			b.shows("It lacks 36.1Gi on GPU 6 of node h100-0: pod research/gemma-27b-0 holds 40Gi.")
			b.do(chromedp.NavigateBack())
			b.until(`document.querySelector('h1').innerText === 'Waiting'`)
			b.settled()
			eval[bool](b, `([...document.querySelectorAll('.waiting')].find((e) => e.innerText.includes('deepseek')).querySelector('.links a:last-child').click(), true)`)
			b.until(`document.querySelector('.summary')?.innerText.startsWith('0 of 1 pod would be placed')`)
			b.shows("0 of 1 pod would be placed, and nobody evicted.")
			// 100Gi on two GPUs are 50Gi on each, of which l40s-1 has 44.2Gi; 80Gi are 40Gi.
			b.fill("GPU memory", "100Gi")
			b.click("button", "Ask")
			b.until(`!document.querySelector('[aria-busy="true"]') && document.querySelector('.pending').innerText.includes('needs 50Gi')`)
			b.fill("GPU memory", "80Gi")
			b.do(chromedp.KeyEvent(kb.Enter))
			b.until(`document.querySelector('.summary').innerText.startsWith('1 of 1 pod')`)
			b.shows("1 of 1 pod would be placed, and nobody evicted.")
			if got := b.rows("table.rows")[0]; got[1] != "l40s-1" || got[2] != "40Gi on GPU 0 40Gi on GPU 1" {
				t.Errorf("it would go to %q", got)
			}
			b.visit(eval[string](b, `location.href`)) // a reload asks again
			b.until(`document.querySelector('.summary')?.innerText.startsWith('1 of 1 pod')`)
			b.click("button", "As a manifest")
			b.until(`document.querySelector('textarea')?.value.includes('berth.dev/gpu-memory: 80Gi')`)
			b.click("button", "Ask")
			b.until(`document.querySelector('.summary').innerText.startsWith('1 of 1 pod')`)
			b.fits()
			b.noComplaints()
		})
	}
}

// TestQuestionsThatMakeNoSense says what the command says of them.
func TestQuestionsThatMakeNoSense(t *testing.T) {
	s := serve(t, smallFile(t))
	for name, tt := range map[string]struct{ address, button, want string }{
		"nothing is asked for":        {"mode=form", "Ask", "say the model, or the GPU memory"},
		"nothing to write down":       {"mode=form", "As a manifest", "say the model, or the GPU memory"},
		"a node that is not there":    {"mode=waiting&drain=nobody", "Ask", `"nobody"`},
		"a shape that is none":        {"mode=waiting&addNode=h100", "Ask", `"h100" is no shape of a node, such as h100-80x8`},
		"an amount that says no unit": {"mode=form&gpuMemory=30", "Ask", "did you mean 30Gi?"},
	} {
		t.Run(name, func(t *testing.T) {
			b := openTab(t, wide)
			b.visit(s.at("#/what-if?" + tt.address))
			b.click("button", tt.button)
			b.until(`document.querySelector('[role="alert"], .pending')`)
			b.shows(tt.want)
		})
	}
}

func TestFiltersLeaveWhatTheyName(t *testing.T) {
	s := serve(t, smallFile(t))
	for name, tt := range map[string]struct {
		address string
		want    string
	}{
		"a node pool":             {"pool=l40s", "l40s-0 l40s-1"},
		"a model of GPU":          {"gpu=NVIDIA+L40S", "l40s-0 l40s-1"},
		"a namespace":             {"namespace=research", "h100-0"},
		"a model that pods run":   {"model=" + strings.ReplaceAll(qwen, "/", "%2F"), "a100-0"},
		"a part of a pod's name":  {"q=whisper", "l40s-0"},
		"a part of a node's name": {"q=a100", "a100-0"},
		"nothing at all":          {"q=nobody", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := openTab(t, wide)
			b.visit(s.at("#/fleet?show=cards&" + tt.address))
			if got := strings.Join(b.words(".node h2"), " "); got != tt.want {
				t.Errorf("nodes %q, want %q", got, tt.want)
			}
		})
	}
}

// TestKeyboard reaches everything that can be used by the tabulator key, in the order of the page, and sees where it is.
func TestKeyboard(t *testing.T) {
	s := serve(t, smallFile(t))
	for _, v := range views {
		t.Run(v.name, func(t *testing.T) {
			b := openTab(t, wide)
			b.visit(s.at(v.address))
			want := eval[int](b, `(() => {
				const usable = [...document.querySelectorAll('a[href], button:not([disabled]), input, select, textarea, summary')].filter((e) => e.checkVisibility());
				usable.forEach((e, i) => { e.dataset.place = i; });
				return usable.length;
			})()`)
			for i := range want {
				b.do(chromedp.KeyEvent(kb.Tab))
				at := eval[struct{ Place, Outline, Text string }](b, `(() => {
					const e = document.activeElement, style = getComputedStyle(e);
					return {Place: e.dataset.place ?? '', Outline: style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2 ? '' : style.outlineStyle, Text: e.outerHTML.slice(0, 120)};
				})()`)
				if at.Place != fmt.Sprint(i) {
					t.Fatalf("the focus is at %s (%q), not at %d of %d", at.Text, at.Place, i, want)
				}
				if at.Outline == "" {
					t.Errorf("the focus is not seen on %s", at.Text)
				}
			}
		})
	}
}

// TestKeyboardOnly goes from the fleet to why a pod waits without a mouse.
func TestKeyboardOnly(t *testing.T) {
	b := openTab(t, wide)
	b.visit(serve(t, smallFile(t)).at("#/fleet"))
	tabTo := func(text string) {
		t.Helper()
		for range 60 {
			b.do(chromedp.KeyEvent(kb.Tab))
			if eval[bool](b, fmt.Sprintf(`document.activeElement.innerText.startsWith(%q)`, text)) {
				return
			}
		}
		t.Fatalf("no way to %q by the keyboard", text)
	}
	tabTo("Skip to the content")
	b.do(chromedp.KeyEvent(kb.Enter))
	if got := eval[string](b, `document.activeElement.id`); got != "main" {
		t.Errorf("the content is skipped to, but the focus is on %q", got)
	}
	tabTo("4 pods")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.until(`document.activeElement.tagName === 'H1' && document.activeElement.innerText === 'Waiting'`)
	b.settled()
	tabTo("chat/deepseek-70b-0")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.until(`document.activeElement.tagName === 'H1' && document.title.startsWith('chat/deepseek-70b-0')`)
	b.settled()
	b.shows("It lacks 36.1Gi on GPU 6 of node h100-0")
}
