// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modeltest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Server is a web server of model files that counts what reading them costs. The weights, which follow the headers,
// are zeros and take no memory.
type Server struct {
	*httptest.Server
	requests, bytes atomic.Int64

	mu    sync.Mutex
	files map[string]file
}

type file struct {
	header []byte
	size   int64
}

// NewServer starts a server. files maps paths ("/x.gguf") to headers, sizes to the sizes of the whole files where
// those are larger.
func NewServer(t testing.TB, files map[string][]byte, sizes map[string]int64) *Server {
	t.Helper()
	s := &Server{files: map[string]file{}}
	for name, header := range files {
		s.Add(name, header, sizes[name])
	}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

// Add adds a file of which header is the beginning, or all if size is not larger.
func (s *Server) Add(path string, header []byte, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = file{header: header, size: max(int64(len(header)), size)}
}

// Requests is how many requests were made, Bytes how many bytes of bodies were sent.
func (s *Server) Requests() int64 { return s.requests.Load() }
func (s *Server) Bytes() int64    { return s.bytes.Load() }

func (s *Server) serve(w http.ResponseWriter, req *http.Request) {
	s.requests.Add(1)
	s.mu.Lock()
	f, ok := s.files[req.URL.Path]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(counted{w, &s.bytes}, req, "", time.Time{}, io.NewSectionReader(f, 0, f.size))
}

// ReadAt implements io.ReaderAt.
func (f file) ReadAt(b []byte, off int64) (int, error) {
	if off >= f.size {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), f.size-off)]
	clear(b)
	if off < int64(len(f.header)) {
		copy(b, f.header[off:])
	}
	return len(b), nil
}

type counted struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w counted) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}
