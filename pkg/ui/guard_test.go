// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestWhoIsLetIn(t *testing.T) {
	s := serve(t, ofLook(t))
	header := func(pairs ...string) func(*http.Request) {
		return func(r *http.Request) {
			for i := 0; i < len(pairs); i += 2 {
				r.Header.Set(pairs[i], pairs[i+1])
			}
		}
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	_, port, err := net.SplitHostPort(s.host)
	if err != nil {
		t.Fatal(err)
	}
	const data = "/api/v1/session"
	page := "/?token=" + s.token
	for _, tt := range []struct {
		name, method, path, body string
		change                   func(*http.Request)
		want                     int
	}{
		{"the page with the token", "GET", page, "", nil, 200},
		{"the page without a token", "GET", "/", "", nil, 403},
		{"the page with an empty token", "GET", "/?token=", "", nil, 403},
		{"the page with another token", "GET", "/?token=" + NewToken(), "", nil, 403},
		{"the page with the token in the header alone", "GET", "/?token=x", "", nil, 403},
		{"data with the token", "GET", data, "", nil, 200},
		{"data without a token", "GET", data, "", header("Authorization", ""), 401},
		{"data with another token", "GET", data, "", header("Authorization", "Bearer "+NewToken()), 401},
		{"data with a beginning of the token", "GET", data, "", header("Authorization", "Bearer "+s.token[:len(s.token)-1]), 401},
		{"data with the token by another scheme", "GET", data, "", header("Authorization", "Basic "+s.token), 401},
		{"data with the token in a cookie", "GET", data, "", header("Authorization", "", "Cookie", "token="+s.token), 401},
		{"data with the token in the address", "GET", data + "?token=" + s.token, "", header("Authorization", ""), 401},
		{"what is not there without a token", "GET", "/api/v1/nothing", "", header("Authorization", ""), 401},
		{"assets without a token", "GET", "/assets/app.js", "", header("Authorization", ""), 200},

		{"by localhost", "GET", data, "", host("localhost:" + port), 200},
		{"by the IPv6 address", "GET", data, "", host("[::1]:" + port), 200},
		{"by capitals", "GET", data, "", host("LOCALHOST:" + port), 200},
		{"by a name that leads here", "GET", data, "", host("rebound.example:" + port), 403},
		{"by a name that begins so", "GET", data, "", host("localhost.example:" + port), 403},
		{"by another port", "GET", data, "", host("localhost:1"), 403},
		{"by no port", "GET", data, "", host("localhost"), 403},
		{"the page by a name that leads here", "GET", page, "", host("rebound.example:" + port), 403},
		{"assets by a name that leads here", "GET", "/assets/app.js", "", host("rebound.example:" + port), 403},

		{"from its own page", "GET", data, "", header("Origin", "http://"+s.host, "Sec-Fetch-Site", "same-origin"), 200},
		{"from its own page by another name", "GET", data, "", header("Origin", "http://localhost:"+port), 200},
		{"from another page", "GET", data, "", header("Origin", "https://evil.example"), 403},
		{"from another port of the machine", "GET", data, "", header("Origin", "http://127.0.0.1:1"), 403},
		{"from a page of no origin", "GET", data, "", header("Origin", "null"), 403},
		{"by https", "GET", data, "", header("Origin", "https://"+s.host), 403},
		{"of another site", "GET", data, "", header("Sec-Fetch-Site", "cross-site"), 403},
		{"of another port of the site", "GET", data, "", header("Sec-Fetch-Site", "same-site"), 403},
		{"typed", "GET", page, "", header("Sec-Fetch-Site", "none"), 200},
		{"the page into another site", "GET", page, "", header("Sec-Fetch-Site", "cross-site"), 403},
		{"the page in a frame of another site", "GET", page, "", header("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"), 403},
		{"a link to the page with the token", "GET", page, "", header("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), 200},
		{"a link to the page with another token", "GET", "/?token=x", "", header("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), 403},
		{"a link to data", "GET", data, "", header("Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), 403},

		{"a question", "POST", "/api/v1/manifest", `{"gpuMemory":"1Gi"}`, nil, 200},
		{"a question with a charset", "POST", "/api/v1/manifest", `{"gpuMemory":"1Gi"}`, header("Content-Type", "application/json; charset=utf-8"), 200},
		{"a question without a token", "POST", "/api/v1/manifest", `{"gpuMemory":"1Gi"}`, header("Authorization", ""), 401},
		{"a question of a form of HTML", "POST", "/api/v1/manifest", `{"gpuMemory":"1Gi"}`, header("Content-Type", "text/plain"), 415},
		{"a question of no type", "POST", "/api/v1/manifest", `{"gpuMemory":"1Gi"}`, header("Content-Type", ""), 415},
		{"a question with a field that is not there", "POST", "/api/v1/manifest", `{"gpuMemry":"1Gi"}`, nil, 400},
		{"a question and more", "POST", "/api/v1/manifest", `{"gpuMemory":"1Gi"}{}`, nil, 400},
		{"a question that is too long", "POST", "/api/v1/what-if", `{"manifest":"` + strings.Repeat("x", maxBody) + `"}`, nil, 413},
		{"a parameter that is not there", "GET", "/api/v1/map?nodes=a", "", nil, 400},
		{"to change", "DELETE", data, "", nil, 405},
		{"to ask where only is looked", "POST", "/api/v1/map", "{}", nil, 405},
		{"of other sites whether it may ask", "OPTIONS", data, "", header("Authorization", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST"), 403},

		{"out of the assets", "GET", "/assets/../secret", "", nil, 307},
		{"out of the assets, encoded", "GET", "/assets/%2e%2e/secret", "", nil, 404},
		{"out of the assets, encoded twice", "GET", "/assets/..%2fsecret", "", nil, 404},
		{"out of the assets, backwards", "GET", `/assets/..%5csecret`, "", nil, 404},
		{"to the root", "GET", "/assets//etc/passwd", "", nil, 307},
		{"a folder", "GET", "/assets/", "", nil, 404},
		{"beside the assets", "GET", "/secret", "", nil, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			response, text := s.ask(tt.method, tt.path, tt.body, tt.change)
			if response.StatusCode != tt.want {
				t.Errorf("%s %s: %s, want %d\n%s", tt.method, tt.path, response.Status, tt.want, text)
			}
			if strings.Contains(text, "beside the assets") {
				t.Errorf("a file beside the assets is sent")
			}
			for name, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; " +
					"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
				"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cross-Origin-Opener-Policy": "same-origin",
				"Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "", "Set-Cookie": "",
			} {
				if got := response.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if got := response.Header.Get("Cache-Control"); got != "no-store" && !strings.HasPrefix(tt.path, "/assets/") {
				t.Errorf("Cache-Control is %q", got)
			}
		})
	}
}

func TestOnlyLoopbackAddressesAreListenedOn(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "localhost": true, "127.0.0.2": true, "0.0.0.0": false, "::": false, "": false, "192.0.2.1": false, "example.com": false,
	} {
		listener, err := Listen(t.Context(), host, 0)
		if (err == nil) != want {
			t.Errorf("%q: %v", host, err)
		}
		if err == nil {
			listener.Close()
		}
	}
	if _, err := Listen(context.Background(), "127.0.0.1", 70000); err == nil {
		t.Error("there is no such port")
	}
}

func TestTokensAreNotGuessed(t *testing.T) {
	if a, b := NewToken(), NewToken(); a == b || len(a) < 26 { // of base32, 26 digits are 130 bits
		t.Errorf("%q and %q", a, b)
	}
}
