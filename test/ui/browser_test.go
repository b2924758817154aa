// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take for what a test waits for. It is no measure of how fast a page is.
const patience = time.Minute

// browser is one Chromium, which all tests share.
var browser struct {
	once  sync.Once
	ctx   context.Context
	err   error
	close func()
}

func startBrowser() {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.Flag("force-device-scale-factor", "1"), chromedp.Flag("hide-scrollbars", true))
	if path := os.Getenv("CHROMIUM"); path != "" {
		options = append(options, chromedp.ExecPath(path))
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	browser.ctx, browser.err, browser.close = ctx, chromedp.Do(ctx), func() { cancel(); stop() }
}

// tab is a tab of the browser.
type tab struct {
	*testing.T
	ctx context.Context
	// complaints are what the browser's console says of the page: errors, and what the policy refuses.
	mu         sync.Mutex
	complaints []string
}

// screen is how the page is seen.
type screen struct {
	name          string
	width, height int64
	dark          bool
}

var (
	wide   = screen{name: "1280", width: 1280, height: 900}
	narrow = screen{name: "390", width: 390, height: 844}
)

// openTab opens a tab on a screen.
func openTab(t *testing.T, s screen) *tab {
	t.Helper()
	browser.once.Do(startBrowser)
	if browser.err != nil {
		t.Fatalf("no browser: %v; hack/test-ui.sh installs it", browser.err)
	}
	ctx, cancel := chromedp.NewContext(browser.ctx)
	t.Cleanup(cancel)
	ctx, stop := context.WithTimeout(ctx, 3*patience)
	t.Cleanup(stop)
	b := &tab{T: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if s.dark {
		scheme = "dark"
	}
	call(b, log.Enable, cdp.Empty{})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	b.do(chromedp.EmulateViewport(s.width, s.height))
	return b
}

// call sends a command of the browser's protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.Helper()
	result, err := chromedp.Call(b.ctx, command, params)
	if err != nil {
		b.Fatal(err)
	}
	return result
}

// listen notes what the browser's console says: errors, and what the policy refuses.
func (b *tab) listen(event any) {
	var text string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
	case *log.EventEntryAdded:
		if e.Entry.Level != log.EntryLevelError {
			return
		}
		text = e.Entry.Text + " " + e.Entry.URL
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, text)
}

// noComplaints fails if the browser complained of the page.
func (b *tab) noComplaints() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		b.Errorf("the browser says:\n%s", strings.Join(b.complaints, "\n"))
	}
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

// visit goes to an address and waits until the page shows the view.
func (b *tab) visit(address string) {
	b.Helper()
	b.do(chromedp.Navigate(address))
	b.settled()
}

// settled waits until nothing is being loaded.
func (b *tab) settled() {
	b.Helper()
	b.until(`document.querySelector('main h1') && !document.querySelector('.loading, [aria-busy="true"]') && !document.body.innerText.includes('Looking for') && (!document.querySelector('.fleet, .lines') || document.querySelector('.fleet .bar, .lines .bar'))`)
}

// until waits until an expression holds.
func (b *tab) until(expression string) {
	b.Helper()
	poll := chromedp.Poll[chromedp.Void](`Boolean(`+expression+`)`, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(patience))
	if _, err := chromedp.Run(b.ctx, poll); err != nil {
		b.Fatalf("the page never had %s: %v\nIt has:\n%s", expression, err, b.text("body"))
	}
}

// text returns what people see of an element.
func (b *tab) text(selector string) string {
	b.Helper()
	return eval[string](b, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ''`, selector))
}

// eval returns what an expression is; a promise is waited for.
func eval[T any](b *tab, expression string) T {
	b.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return value
}

// try goes to an address that may answer with an error.
func (b *tab) try(address string) error {
	b.Helper()
	return chromedp.Do(b.ctx, chromedp.Navigate(address))
}
