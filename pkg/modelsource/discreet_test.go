// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

// discreet returns a Resolver whose hub shows private repositories to the controller's token alone.
func discreet(t *testing.T, h *hub, roots ...string) *Resolver {
	t.Helper()
	h.intercept = func(w http.ResponseWriter, req *http.Request) bool {
		gated := strings.Contains(req.URL.Path, "gated") && strings.Contains(req.URL.Path, "/resolve/") // which everybody may list
		if !gated && !strings.Contains(req.URL.Path, "private") || req.Header.Get("Authorization") == "Bearer admin" {
			return false
		}
		w.Header().Set("X-Error-Code", "RepoNotFound") // as huggingface.co answers strangers
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	return resolverFor(t, h.URL, func(c *Config) {
		c.Roots, c.Discreet = roots, true
		c.Credentials = func(context.Context, string) (string, error) { return "Bearer admin", nil }
	})
}

// failure is what is told of a model, and why. The files of one that is found are taken to be bad.
func failureOf(t *testing.T, r *Resolver, uri string) (told, cause error) {
	t.Helper()
	s, err := r.Resolve(t.Context(), uri)
	if err == nil {
		defer s.Close() //nolint:errcheck // only read
		err = s.Told(errors.New("config.json: secret_layer is no number"))
	}
	return err, Cause(err)
}

// TestNobodyIsToldWhatIsInPrivateRepositoriesAndStores is attack 13: what differs in what is told says what is there.
func TestNobodyIsToldWhatIsInPrivateRepositoriesAndStores(t *testing.T) {
	h := newHub(t, nil)
	file := modeltest.Content("GGUF12345678")
	two := map[string]modeltest.File{"secret-a.gguf": file, "secret-b.gguf": file}
	h.listing(t, "org/private-two", "main", two)
	h.listing(t, "org/public-two", "main", two)
	h.listing(t, "org/private-torch", "main", map[string]modeltest.File{"pytorch_model.bin": file})
	h.listing(t, "org/private-shards", "main", map[string]modeltest.File{"config.json": file, "secret-00001-of-00002.safetensors": file})
	h.listing(t, "org/private-bad", "main", map[string]modeltest.File{"secret.gguf": file})
	h.listing(t, "org/gated-bad", "main", map[string]modeltest.File{"secret.gguf": file})
	h.listing(t, "org/gated-two", "main", two)
	h.listing(t, "org/public-bad", "main", map[string]modeltest.File{"x.gguf": file})
	store := t.TempDir()
	for name, text := range map[string]string{"two/secret-a.gguf": "GGUF", "two/secret-b.gguf": "GGUF", "torch/secret.bin": "x", "bad.gguf": "GGUF1234"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(store, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(store, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(store, "out.gguf")); err != nil {
		t.Fatal(err)
	}
	r := discreet(t, h, store)
	for _, tc := range []struct{ uri, cause string }{
		{"hf://org/private-none", "no such model"},
		{"hf://org/private-two", "secret-a.gguf"},
		{"hf://org/private-two/none.gguf", "no file or folder"},
		{"hf://org/private-torch", "PyTorch weights only"},
		{"hf://org/private-shards", "1 of the 2 shards"},
		{"hf://org/private-bad", "secret_layer"},
		{"hf://org/gated-bad", "secret_layer"},
		{h.URL + "/private/none.gguf", "no such model"},
		{"file://" + store + "/none", "has no"},
		{"file://" + store + "/two", "2 GGUF models"},
		{"file://" + store + "/two/none.gguf", "has no"},
		{"file://" + store + "/torch", "PyTorch weights only"},
		{"file://" + store + "/bad.gguf", "secret_layer"},
		{"file://" + store + "/out.gguf", "cannot be read"},
	} {
		told, cause := failureOf(t, r, tc.uri)
		if ReasonOf(told) != NotFound || !strings.HasPrefix(told.Error(), tc.uri+": no model that can be read is there. ") {
			t.Errorf("%s: told %v (%s), want that none is there", tc.uri, told, ReasonOf(told))
		}
		if strings.Contains(strings.ReplaceAll(told.Error(), tc.uri, ""), "secret") {
			t.Errorf("%s: told %v", tc.uri, told)
		}
		if !strings.Contains(cause.Error(), tc.cause) {
			t.Errorf("%s: the cause is %v, want %q", tc.uri, cause, tc.cause)
		}
	}
	for _, tc := range []struct {
		uri, want string
		reason    Reason
	}{
		{"hf://org/public-two", "hf://org/public-two/secret-a.gguf", Unsupported},
		{"hf://org/public-bad", "secret_layer", ""},
		{"hf://org/gated-two", "hf://org/gated-two/secret-a.gguf", Unsupported},
		{"hf://org/public-two/none.gguf", "no file or folder", NotFound},
		{"file:///elsewhere/x", "is not in a model store", Unsupported},
		{"hf://org", "names no organization", Unsupported},
	} {
		if told, _ := failureOf(t, r, tc.uri); ReasonOf(told) != tc.reason || !strings.Contains(told.Error(), tc.want) {
			t.Errorf("%s: told %v (%s), want %q, which everybody can see (%s)", tc.uri, told, ReasonOf(told), tc.want, tc.reason)
		}
	}
}

func TestTroubleOfASourceIsToldThoughTheModelIsPrivate(t *testing.T) {
	h := newHub(t, nil)
	r := discreet(t, h)
	h.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	if told, _ := failureOf(t, r, "hf://org/private"); ReasonOf(told) != Unreachable {
		t.Errorf("told %v, want that the source has a problem", told)
	}
}

// TestRedirectToAPrivateHostTellsNothing: a host that shows everybody everything redirects to one that the controller has a
// token for.
func TestRedirectToAPrivateHostTellsNothing(t *testing.T) {
	private := newHub(t, map[string]modeltest.File{"/private/there.gguf": modeltest.Content("GGUF12345678")})
	public := newHub(t, nil)
	r := discreet(t, private)
	r.policy.trusted[public.URL] = true
	public.intercept = func(w http.ResponseWriter, req *http.Request) bool {
		http.Redirect(w, req, private.URL+"/private"+req.URL.Path, http.StatusFound)
		return true
	}
	var all []string
	for _, name := range []string{"there.gguf", "none.gguf"} {
		told, _ := failureOf(t, r, public.URL+"/"+name)
		all = append(all, strings.ReplaceAll(told.Error(), name, ""))
	}
	if all[0] != all[1] {
		t.Errorf("one can tell %q from %q", all[0], all[1])
	}
}

func TestHostIsWhoAnswersFirst(t *testing.T) {
	r := resolverFor(t, "https://mirror.example/path", func(c *Config) { c.Roots = []string{"/models"} })
	for uri, want := range map[string]string{
		"hf://a/b":                             "https://mirror.example:443",
		"ollama://a":                           "https://mirror.example:443",
		"ollama://Registry.example/a/b":        "https://registry.example:443",
		"https://host.example:8443/x.gguf":     "https://host.example:8443",
		"https://host.example:8443/x.gguf?a=b": "",
		"file:///models/a/b":                   "/models",
		"file:///elsewhere":                    "",
		"nonsense":                             "",
	} {
		if got := r.Host(uri); got != want {
			t.Errorf("Host(%s) = %q, want %q", uri, got, want)
		}
	}
}
