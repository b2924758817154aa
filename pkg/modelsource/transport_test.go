// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

func TestTokensGoToTheirOwnHostOnly(t *testing.T) {
	store := newHub(t, map[string]modeltest.File{"/blob": modeltest.Content("GGUF12345678")})
	h := newHub(t, nil)
	h.intercept = func(w http.ResponseWriter, req *http.Request) bool {
		http.Redirect(w, req, store.URL+"/blob?signature=x", http.StatusFound)
		return true
	}
	policy, err := NewPolicy([]string{h.URL, store.URL}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	hubHost := strings.TrimPrefix(h.URL, "http://")
	r := resolverFor(t, h.URL, func(c *Config) {
		c.Policy = policy
		c.Credentials = func(_ context.Context, host string) (string, error) {
			if host == hubHost {
				return "Bearer of-the-hub", nil
			}
			return "", nil
		}
	})
	s, err := r.Resolve(t.Context(), h.URL+"/x.gguf")
	if err != nil {
		t.Fatal(err)
	}
	headOf(t, s.Weights[0], 12)
	for _, got := range h.auth {
		if got != "Bearer of-the-hub" {
			t.Errorf("the hub was shown %q", got)
		}
	}
	for _, got := range store.auth {
		if got != "" {
			t.Errorf("the store that the hub redirects to was shown %q", got)
		}
	}
	if len(h.auth) == 0 || len(store.auth) == 0 {
		t.Error("the hub and the store were not both asked")
	}
}

func TestTokensAreNotSentInTheOpen(t *testing.T) {
	h := newHub(t, map[string]modeltest.File{"/x.gguf": modeltest.Content("GGUF12345678")})
	policy, err := NewPolicy(nil, []string{h.URL}, []string{"127.0.0.0/8"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := resolverFor(t, h.URL, func(c *Config) {
		c.Policy = policy
		c.Credentials = func(context.Context, string) (string, error) { return "Bearer x", nil }
	})
	if _, err := r.Resolve(t.Context(), h.URL+"/x.gguf"); err != nil {
		t.Fatal(err)
	}
	for _, got := range h.auth {
		if got != "" {
			t.Errorf("a host that is no configured endpoint was shown %q over plain HTTP", got)
		}
	}
}

func TestUnreadableCredentialsAreUnauthorized(t *testing.T) {
	h := newHub(t, nil)
	r := resolverFor(t, h.URL, func(c *Config) {
		c.Credentials = func(context.Context, string) (string, error) { return "", errors.New("no such Secret") }
	})
	_, err := r.Resolve(t.Context(), "hf://a/b")
	if ReasonOf(err) != Unauthorized || h.Requests() != 0 {
		t.Errorf("got %v after %d requests, want Unauthorized after none", err, h.Requests())
	}
}

func TestRedirectsAreHeldToThePolicy(t *testing.T) {
	inside := newHub(t, map[string]modeltest.File{"/secret": modeltest.Content("GGUF12345678")})
	for _, tc := range []struct{ name, target string }{
		{"to a host that is not listed", "https://intranet.example/x"},
		{"to a loopback address", inside.URL + "/secret"},
		{"to the metadata service", "http://169.254.169.254/latest/meta-data"},
		{"to a file", "file:///etc/passwd"},
		{"to itself for ever", "/loop"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t, nil)
			h.intercept = func(w http.ResponseWriter, req *http.Request) bool {
				http.Redirect(w, req, tc.target, http.StatusFound)
				return true
			}
			r := resolverFor(t, h.URL, nil)
			if _, err := r.Resolve(t.Context(), h.URL+"/x.gguf"); err == nil {
				t.Error("want an error")
			}
			if got := inside.Requests(); got != 0 {
				t.Errorf("the inside was asked %d times", got)
			}
		})
	}
}

func TestNamesThatResolveToTheInsideAreNotDialled(t *testing.T) {
	// "localhost" is a name on the list that resolves to loopback, as a rebinding name server would answer.
	h := newHub(t, map[string]modeltest.File{"/x.gguf": modeltest.Content("GGUF12345678")})
	u, err := url.Parse(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		allowed []string
		want    Reason
	}{
		{"by default", nil, Unsupported},
		{"where the admin allows the range", []string{"127.0.0.0/8", "::1/128"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			policy, err := NewPolicy(nil, []string{"http://localhost:" + u.Port()}, tc.allowed, nil)
			if err != nil {
				t.Fatal(err)
			}
			r := resolverFor(t, h.URL, func(c *Config) { c.Policy = policy })
			_, err = r.Resolve(t.Context(), "http://localhost:"+u.Port()+"/x.gguf")
			if got := ReasonOf(err); got != tc.want {
				t.Errorf("got %v (%q), want %q", err, got, tc.want)
			}
		})
	}
}

func TestProxyIsUsedThoughItIsInside(t *testing.T) {
	var asked atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		if req.URL.Host != "models.example" {
			http.Error(w, "not me", http.StatusBadGateway)
			return
		}
		http.ServeContent(w, req, "", time.Time{}, strings.NewReader("GGUF12345678"))
	}))
	t.Cleanup(proxy.Close)
	proxyURL, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := NewPolicy(nil, []string{"http://models.example"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := resolverFor(t, "https://unused.example", func(c *Config) {
		c.Policy, c.Proxy = policy, http.ProxyURL(proxyURL)
	})
	if _, err := r.Resolve(t.Context(), "http://models.example/x.gguf"); err != nil {
		t.Fatal(err)
	}
	// Through the proxy too, only hosts of the list can be named.
	before := asked.Load()
	if _, err := r.Resolve(t.Context(), "http://169.254.169.254/x.gguf"); ReasonOf(err) != Unsupported || asked.Load() != before {
		t.Errorf("the metadata service through the proxy: %v, want Unsupported without a request", err)
	}
}

func TestUnreachableHost(t *testing.T) {
	h := newHub(t, nil)
	h.Close()
	_, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), "hf://a/b")
	if ReasonOf(err) != Unreachable {
		t.Errorf("got %v, want Unreachable", err)
	}
}

func TestCompressedAnswersAreRefused(t *testing.T) {
	h := newHub(t, nil)
	h.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte("x"))
		return true
	}
	if _, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), h.URL+"/x.gguf"); ReasonOf(err) != Unsupported {
		t.Errorf("got %v, want Unsupported", err)
	}
}
