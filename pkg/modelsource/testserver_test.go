// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// padded is a file of any size that costs the memory of what is at its beginning: zeros follow.
type padded struct {
	head []byte
	size int64
}

func (p padded) ReadAt(b []byte, off int64) (int, error) {
	if off >= p.size {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.size-off)]
	clear(b)
	if off < int64(len(p.head)) {
		copy(b, p.head[off:])
	}
	return len(b), nil
}

// hub serves files by ranges and counts what that costs.
type hub struct {
	*httptest.Server
	files    map[string]padded // by path
	requests atomic.Int64
	bytes    atomic.Int64
	mu       sync.Mutex
	auth     []string // Authorization of each request
	// intercept answers a request itself when it returns true.
	intercept func(w http.ResponseWriter, req *http.Request) bool
}

func newHub(t *testing.T, files map[string]padded) *hub {
	t.Helper()
	h := &hub{files: files}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h.requests.Add(1)
	h.mu.Lock()
	h.auth = append(h.auth, req.Header.Get("Authorization"))
	h.mu.Unlock()
	if h.intercept != nil && h.intercept(w, req) {
		return
	}
	f, ok := h.files[req.URL.Path]
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(countingWriter{w, &h.bytes}, req, "", time.Time{}, io.NewSectionReader(f, 0, f.size))
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// listing adds the API's answer for a repository that holds files at commit "c0ffee".
func (h *hub) listing(t *testing.T, repo, revision string, files map[string]padded) {
	t.Helper()
	type sibling struct {
		Name string `json:"rfilename"`
		Size int64  `json:"size"`
		ID   string `json:"blobId"`
	}
	siblings := []sibling{}
	for name, f := range files {
		siblings = append(siblings, sibling{Name: name, Size: f.size, ID: "id-of-" + name})
		h.files["/"+repo+"/resolve/c0ffee/"+name] = f
	}
	data, err := json.Marshal(map[string]any{"sha": "c0ffee", "siblings": siblings})
	if err != nil {
		t.Fatal(err)
	}
	h.files["/api/models/"+repo+"/revision/"+revision] = padded{head: data, size: int64(len(data))}
}

// resolverFor returns a Resolver that has the server as all its endpoints.
func resolverFor(t *testing.T, endpoint string, change func(*Config)) *Resolver {
	t.Helper()
	policy, err := NewPolicy([]string{endpoint}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		HuggingFaceEndpoint: endpoint,
		OllamaEndpoint:      endpoint,
		Policy:              policy,
		Proxy:               func(*http.Request) (*url.URL, error) { return nil, nil },
		Backoff:             time.Millisecond,
		AttemptTimeout:      10 * time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	r, err := NewResolver(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// content is a file that is all there.
func content(s string) padded { return padded{head: []byte(s), size: int64(len(s))} }

// headOf reads the first n bytes of a file.
func headOf(t *testing.T, f File, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, f.Size()), b); err != nil {
		t.Fatalf("read %s: %v", f.Name(), err)
	}
	return string(b)
}

func names(files []File) string {
	var s []string
	for _, f := range files {
		s = append(s, f.Name())
	}
	return strings.Join(s, " ")
}

// pattern is n bytes of which no two ranges of the same length are alike.
func pattern(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		b.WriteByte(byte(i >> 16))
		b.WriteByte(byte(i >> 8))
		b.WriteByte(byte(i))
	}
	return b.Bytes()[:n]
}
