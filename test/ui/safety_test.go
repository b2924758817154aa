// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// TestAnotherPageReadsNothing tries what a page of another origin can: it knows the address, and even the token.
func TestAnotherPageReadsNothing(t *testing.T) {
	s := serve(t, smallFile(t))
	token := s.address.Query().Get("token")
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>Another page</title><h1>Another page</h1>"))
	}))
	defer other.Close()
	b := openTab(t, wide)
	b.visit(s.at("#/fleet")) // it can be read by itself
	own := fmt.Sprintf(`fetch('/api/v1/map', {headers: {Authorization: 'Bearer %s'}}).then((r) => r.status)`, token)
	if got := eval[int](b, own); got != http.StatusOK {
		t.Fatalf("the page itself is answered %d", got)
	}
	if err := b.try(other.URL); err != nil {
		t.Fatal(err)
	}
	for name, attempt := range map[string]string{
		"a request with the token":  `fetch('http://%[1]s/api/v1/map', {headers: {Authorization: 'Bearer %[2]s'}}).then((r) => r.text())`,
		"a request without":         `fetch('http://%[1]s/api/v1/map').then((r) => r.text())`,
		"a request that is opaque":  `fetch('http://%[1]s/api/v1/map', {mode: 'no-cors'}).then((r) => r.text())`,
		"the page itself":           `fetch('http://%[1]s/?token=%[2]s').then((r) => r.text())`,
		"the page, opaque":          `fetch('http://%[1]s/?token=%[2]s', {mode: 'no-cors'}).then((r) => r.text())`,
		"a question":                `fetch('http://%[1]s/api/v1/what-if', {method: 'POST', body: '{}', headers: {'Content-Type': 'text/plain'}}).then((r) => r.text())`,
		"the stream of the changes": `fetch('http://%[1]s/api/v1/changes', {mode: 'no-cors'}).then((r) => r.text())`,
	} {
		t.Run(name, func(t *testing.T) {
			b.T = t
			script := fmt.Sprintf(attempt, s.address.Host, token)
			if got := eval[string](b, fmt.Sprintf(`%s.catch(() => '')`, script)); got != "" {
				t.Errorf("another page reads %q", got)
			}
		})
	}
}

// TestNoPageFramesIt tries to show the page in a frame, where clicks could be led to it.
func TestNoPageFramesIt(t *testing.T) {
	s := serve(t, smallFile(t))
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>Another page</title><iframe src="%s"></iframe>`, s.address)
	}))
	defer other.Close()
	b := openTab(t, wide)
	if err := b.try(other.URL); err != nil {
		t.Fatal(err)
	}
	frames := call(b, page.GetFrameTree, cdp.Empty{}).FrameTree.ChildFrames
	if len(frames) != 1 || frames[0].Frame.UnreachableURL == "" {
		t.Errorf("a frame shows %+v", frames)
	}
}

// TestPageNeedsItsToken opens the page without the token, and with one of another run.
func TestPageNeedsItsToken(t *testing.T) {
	s := serve(t, smallFile(t))
	for _, address := range []string{"http://" + s.address.Host + "/", "http://" + s.address.Host + "/?token=other"} {
		b := openTab(t, wide)
		if err := b.try(address); err != nil {
			t.Fatal(err)
		}
		if got := oneLine(b.text("body")); got != "Open the address that kubectl berth ui printed, with its token." {
			t.Errorf("%s answers %q", address, got)
		}
	}
}

// TestReloadKeepsTheView: the token and the view are in the address.
func TestReloadKeepsTheView(t *testing.T) {
	s := serve(t, smallFile(t))
	b := openTab(t, wide)
	b.visit(s.at("#/usage?by=node-pool"))
	b.do(chromedp.Reload())
	b.settled()
	b.until(`document.querySelector('h1')?.innerText === 'Usage' && document.querySelector('select')?.value === 'node-pool'`)
}
