// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"
)

// roundTrip answers requests without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// answered returns a resolver with the defaults of an installation, whose requests f answers.
func answered(t testing.TB, change func(*Config), f roundTrip) *Resolver {
	t.Helper()
	policy, err := NewPolicy(nil, []string{"huggingface.co", "registry.ollama.ai"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Policy: policy, Backoff: time.Nanosecond, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}
	if change != nil {
		change(&cfg)
	}
	r, err := NewResolver(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.fetcher.client.Transport = f
	return r
}

// TestWhatLeadsInsideIsNotAskedFor names, in every form that is known, the inside of a cluster, and files beside the store.
func TestWhatLeadsInsideIsNotAskedFor(t *testing.T) {
	r := answered(t, func(c *Config) { c.Roots = []string{t.TempDir()} }, func(req *http.Request) (*http.Response, error) {
		t.Errorf("%s is asked for", req.URL)
		return nil, http.ErrAbortHandler
	})
	for name, uri := range map[string]string{
		"the metadata service":              "http://169.254.169.254/latest/meta-data/x.gguf",
		"with TLS":                          "https://169.254.169.254/x.gguf",
		"in IPv6":                           "https://[fd00:ec2::254]/x.gguf",
		"loopback":                          "https://127.0.0.1/x.gguf",
		"loopback, shortened":               "https://127.1/x.gguf",
		"loopback as one number":            "https://2130706433/x.gguf",
		"loopback in hexadecimal":           "https://0x7f000001/x.gguf",
		"loopback in octal":                 "https://0177.0.0.1/x.gguf",
		"loopback in IPv6":                  "https://[::1]/x.gguf",
		"loopback by its name":              "https://localhost/x.gguf",
		"a Service":                         "https://kubernetes.default.svc/x.gguf",
		"an address as a registry":          "ollama://169.254.169.254/a/b",
		"a Service as a registry":           "ollama://kubernetes.default.svc:443/a/b",
		"a host before which a user is":     "https://huggingface.co@169.254.169.254/x.gguf",
		"a host that is a user":             "https://user:password@huggingface.co/x.gguf",
		"a host behind a backslash":         `https://huggingface.co\@169.254.169.254/x.gguf`,
		"a host with a digit of full width": "https://１27.0.0.1/x.gguf",
		"a file beside the store":           "file:///etc/passwd",
		"a process":                         "file:///proc/self/environ",
		"a file above the store":            "file:///models/../etc/passwd",
	} {
		if _, err := r.Resolve(t.Context(), uri); ReasonOf(err) != Unsupported {
			t.Errorf("%s: error %v (%q), want %q", name, err, ReasonOf(err), Unsupported)
		}
	}
}

// FuzzHubAnswers: whatever a hub answers, it makes the controller ask nobody else, ask no more than a few times for each file, and
// believe in no files that are outside of the model.
func FuzzHubAnswers(f *testing.F) {
	f.Add([]byte(`{"sha":"c0ffee","siblings":[{"rfilename":"config.json","size":2},{"rfilename":"model.safetensors","size":9,"blobId":"b","lfs":{"sha256":"w","size":9}}]}`), []byte("12345678{"), "bytes 0-8/9", false)
	f.Add([]byte(`{"siblings":[{"rfilename":"x-00001-of-00002.gguf"},{"rfilename":"x-00002-of-00002.gguf"},{"rfilename":"mmproj.gguf","size":-1}]}`), []byte("GGUF"), "bytes 0-0/99999999999", false)
	for _, name := range []string{"../x.gguf", "/x.gguf", "a/../../x.gguf", "..", "a//x.gguf"} {
		f.Add([]byte(`{"sha":"..","siblings":[{"rfilename":"`+name+`","size":4}]}`), []byte("GGUF"), "bytes 0-3/4", false)
	}
	f.Add([]byte(`{"sha":"..","siblings":[{"rfilename":"../x.gguf"},{"rfilename":"a/../x.gguf"},{"rfilename":"a#?%2e%2e/x.gguf","size":9223372036854775807}]}`), []byte("GGUF"), "bytes 0-3/*", false)
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:`+strings.Repeat("a", 64)+`","size":9}]}`), []byte("GGUF"), "", true)
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"../x","size":-1},{"mediaType":"application/vnd.ollama.image.tensor"}]}`), []byte(nil), "", true)
	f.Fuzz(func(t *testing.T, answer, file []byte, contentRange string, ollama bool) {
		asked, host, folder, uri := 0, "huggingface.co", "/o/r/", "hf://o/r"
		if ollama {
			host, folder, uri = "registry.ollama.ai", "/v2/library/m/", "ollama://m"
		}
		r := answered(t, nil, func(req *http.Request) (*http.Response, error) {
			asked++
			if req.URL.Host != host || !strings.HasPrefix(path.Clean(req.URL.Path), folder) && !strings.HasPrefix(req.URL.Path, "/api/models"+folder) {
				t.Errorf("%s is asked for", req.URL)
			}
			resp := &http.Response{Request: req, StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: -1}
			body := file
			switch {
			case strings.Contains(req.URL.Path, "/manifests/") || strings.HasPrefix(req.URL.Path, "/api/"):
				body = answer
			case contentRange != "":
				resp.StatusCode = http.StatusPartialContent
				resp.Header.Set("Content-Range", contentRange)
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
			return resp, nil
		})
		s, err := r.Resolve(t.Context(), uri)
		if err == nil {
			defer s.Close()
			if len(s.Weights) == 0 {
				t.Error("a model without weights")
			}
			for _, w := range s.Weights {
				if name := w.Name(); w.Size() < 0 || strings.Contains("/"+name+"/", "/../") || strings.HasPrefix(name, "/") {
					t.Errorf("file %q of %d bytes", name, w.Size())
				}
			}
			_, _ = s.Weights[0].ReadAt(make([]byte, 8), 0)
			_, _ = s.ReadConfig("config.json")
		}
		if asked > 40+len(answer) {
			t.Errorf("%d requests", asked)
		}
	})
}
