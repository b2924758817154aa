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

// File is a file of any size that takes the memory of what is at its beginning: zeros follow.
type File struct {
	Head []byte
	Size int64
}

// Content is a file that is all there.
func Content[T string | []byte](data T) File { return File{Head: []byte(data), Size: int64(len(data))} }

// ReadAt implements io.ReaderAt.
func (f File) ReadAt(b []byte, off int64) (int, error) {
	if off >= f.Size {
		return 0, io.EOF
	}
	short := int64(len(b)) > f.Size-off
	if short {
		b = b[:f.Size-off]
	}
	clear(b)
	if off < int64(len(f.Head)) {
		copy(b, f.Head[off:])
	}
	if short {
		return len(b), io.EOF
	}
	return len(b), nil
}

// Server is a web server of files that answers range requests and counts what they cost.
type Server struct {
	*httptest.Server
	// Intercept answers a request itself if it returns true; set it before the first request.
	Intercept func(w http.ResponseWriter, req *http.Request) bool

	requests, bytes atomic.Int64

	mu    sync.Mutex
	files map[string]File
}

// NewServer starts a server of files by path ("/x.gguf").
func NewServer(t testing.TB, files map[string]File) *Server {
	t.Helper()
	s := &Server{files: map[string]File{}}
	for path, f := range files {
		s.files[path] = f
	}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

// Add adds a file.
func (s *Server) Add(path string, f File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = f
}

// Requests is how many requests were made.
func (s *Server) Requests() int64 { return s.requests.Load() }

// Bytes is how many bytes of files were sent.
func (s *Server) Bytes() int64 { return s.bytes.Load() }

func (s *Server) serve(w http.ResponseWriter, req *http.Request) {
	s.requests.Add(1)
	if s.Intercept != nil && s.Intercept(w, req) {
		return
	}
	s.mu.Lock()
	f, ok := s.files[req.URL.Path]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(counted{w, &s.bytes}, req, "", time.Time{}, io.NewSectionReader(f, 0, f.Size))
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
