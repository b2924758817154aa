// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"slices"
	"strings"
)

// contentPolicy lets the page load its own files, ask this server, and nothing else.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; " +
	"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// guard lets requests in.
type guard struct {
	// token is the sum of it: sums are of one length, so that comparing them takes one time.
	token [sha256.Size]byte
	// hosts are the names by which browsers know this server. A name of somebody else's that leads here (DNS rebinding) is not among
	// them.
	hosts []string
}

// NewToken returns a secret for the address of the page: 128 bits and more.
func NewToken() string { return rand.Text() }

// newGuard returns the guard of a server that listens at an address.
func newGuard(token, address string) (*guard, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	g := &guard{token: sha256.Sum256([]byte(token)), hosts: []string{address}}
	for _, name := range []string{"127.0.0.1", "localhost", "::1"} {
		g.hosts = append(g.hosts, net.JoinHostPort(name, port))
	}
	return g, nil
}

func (g *guard) isToken(given string) bool {
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1
}

// wrap lets in what may be answered.
func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("Referrer-Policy", "no-referrer") // the address has the token
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Embedder-Policy", "require-corp")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		if refusal := g.refuse(r); refusal != "" {
			writeError(w, http.StatusForbidden, refusal)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/api/") && !g.isToken(bearer(r)) {
			h.Set("WWW-Authenticate", "Bearer")
			writeError(w, http.StatusUnauthorized, "the token is missing or wrong: open the address that kubectl berth ui printed")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse says why a request is not from this server's own page; empty if it may be.
func (g *guard) refuse(r *http.Request) string {
	if !slices.Contains(g.hosts, strings.ToLower(r.Host)) {
		return "this server is not called " + quoted(r.Host)
	}
	for _, origin := range r.Header.Values("Origin") {
		if host, ok := strings.CutPrefix(strings.ToLower(origin), "http://"); !ok || !slices.Contains(g.hosts, host) {
			return "pages of " + quoted(origin) + " are not answered"
		}
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" && !g.isVisit(r) {
			return "pages of others are not answered"
		}
	}
	return ""
}

// isVisit says whether somebody follows a link to the page, as from a terminal in a browser: with the token, and to have it as a
// page of its own. The page that has the link gets nothing of it.
func (g *guard) isVisit(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/" && r.Header.Get("Sec-Fetch-Mode") == "navigate" &&
		r.Header.Get("Sec-Fetch-Dest") == "document" && g.isToken(r.URL.Query().Get("token"))
}

// bearer returns the token that a request has in its header. One in its address or in a cookie does not count: addresses are
// written down, and cookies go to all ports of a host.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}
