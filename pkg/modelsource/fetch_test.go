// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

func TestLargeHeaderCostsFewRequestsAndItsOwnSize(t *testing.T) {
	// The header of a 70B model of the Llama 3 family: 128,256 tokens and 280,147 merges, 8 MB in a file of 40 GB.
	const headerSize, fileSize = 8 << 20, 40 << 30
	head := pattern(headerSize)
	h := newHub(t, map[string]modeltest.File{"/big.gguf": {Head: head, Size: fileSize}})
	s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), h.URL+"/big.gguf")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Size(); got != fileSize {
		t.Errorf("size %d, want %d", got, int64(fileSize))
	}
	// As a parser reads: strings of a few bytes, one after the other.
	r := io.NewSectionReader(s.Weights[0], 0, s.Weights[0].Size())
	got := make([]byte, headerSize)
	for n := 0; n < headerSize; n += 64 {
		if _, err := io.ReadFull(r, got[n:n+64]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, head) {
		t.Error("what was read is not what is in the file")
	}
	if got := h.Bytes(); got > 16<<20 {
		t.Errorf("%d bytes were sent, want at most 16 MiB", got)
	}
	if got := h.Requests(); got > 10 {
		t.Errorf("%d requests, want at most 10", got)
	}
}

func TestReadsAtRandomOffsets(t *testing.T) {
	const size = 3<<20 + 17
	data := pattern(size)
	h := newHub(t, map[string]modeltest.File{"/x.gguf": {Head: data, Size: size}})
	s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), h.URL+"/x.gguf")
	if err != nil {
		t.Fatal(err)
	}
	f := s.Weights[0]
	for _, tc := range []struct{ off, n int64 }{{size - 5, 5}, {0, 8}, {1 << 20, 300_000}, {size - 70_000, 70_000}, {1<<20 - 3, 10}, {0, size}} {
		got := make([]byte, tc.n)
		if n, err := f.ReadAt(got, tc.off); err != nil || !bytes.Equal(got[:n], data[tc.off:tc.off+tc.n]) {
			t.Errorf("ReadAt(%d bytes, %d) = %d, %v, or other bytes than the file's", tc.n, tc.off, n, err)
		}
	}
	if n, err := f.ReadAt(make([]byte, 10), size-4); n != 4 || err != io.EOF {
		t.Errorf("a read over the end = %d, %v, want 4, EOF", n, err)
	}
}

func TestLittleOfAFileIsRemembered(t *testing.T) {
	h := newHub(t, map[string]modeltest.File{"/x.gguf": {Head: pattern(100), Size: 60 << 20}})
	s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), h.URL+"/x.gguf")
	if err != nil {
		t.Fatal(err)
	}
	f := s.Weights[0].(*remoteFile)
	if _, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, f.Size())); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, e := range f.extents {
		kept += len(e.data)
	}
	if kept > maxKept {
		t.Errorf("%d bytes are remembered, want at most %d", kept, maxKept)
	}
	// What was let go can be read again.
	if got := headOf(t, f, 100); got != string(pattern(100)) {
		t.Error("the beginning is not what it was")
	}
}

func TestServerThatIgnoresRangesIsReadFromItsBeginning(t *testing.T) {
	data := pattern(1 << 20)
	h := newHub(t, nil)
	h.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data)
		return true
	}
	s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), h.URL+"/x.gguf")
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1000)
	if _, err := s.Weights[0].ReadAt(got, 700_000); err != nil || !bytes.Equal(got, data[700_000:701_000]) {
		t.Errorf("ReadAt: %v, or other bytes than the file's", err)
	}
}

func TestStatusesHaveReasons(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		header map[string]string
		want   Reason
	}{
		{"not found", 404, nil, NotFound},
		{"gone", 410, nil, NotFound},
		{"unauthorized", 401, nil, Unauthorized},
		{"forbidden", 403, nil, Unauthorized},
		{"what does not exist for strangers", 401, map[string]string{"X-Error-Code": "RepoNotFound"}, NotFound},
		{"a gated model", 403, map[string]string{"X-Error-Code": "GatedRepo"}, Unauthorized},
		{"too many requests", 429, map[string]string{"Retry-After": "120"}, Unreachable},
		{"a broken server", 500, nil, Unreachable},
		{"an overloaded server", 503, nil, Unreachable},
		{"legal reasons", 451, nil, Unsupported},
		{"an empty file", 416, nil, BadFile},
		{"a redirect to nowhere", 302, nil, Unsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t, nil)
			h.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
				for k, v := range tc.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(tc.status)
				return true
			}
			r := resolverFor(t, h.URL, nil)
			for _, uri := range []string{h.URL + "/x.gguf", "hf://a/b/x.gguf", "ollama://a:b"} {
				_, err := r.Resolve(t.Context(), uri)
				if got := ReasonOf(err); got != tc.want {
					t.Errorf("Resolve(%s): %v has the reason %q, want %q", uri, err, got, tc.want)
				}
			}
		})
	}
}

func TestPassingTroubleIsRetried(t *testing.T) {
	for _, tc := range []struct {
		name    string
		trouble func(w http.ResponseWriter)
	}{
		{"a server error", func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }},
		{"too many requests for the moment", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		}},
		{"a connection that is dropped", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }},
		{"a body that breaks off", func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-11/12")
			w.Header().Set("Content-Length", "12")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("GGUF"))
			panic(http.ErrAbortHandler)
		}},
		{"a body that is shorter than announced without a length", func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-11/12")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("GGUF"))
			w.(http.Flusher).Flush()
		}},
		{"another range than was asked for", func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 4-11/12")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("12345678"))
		}},
		{"a range that cannot be", func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-11/3")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("GGUF12345678"))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHub(t, map[string]modeltest.File{"/x.gguf": modeltest.Content("GGUF12345678")})
			var asked atomic.Int64
			h.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
				if asked.Add(1) > 2 {
					return false
				}
				tc.trouble(w)
				return true
			}
			s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), h.URL+"/x.gguf")
			if err != nil {
				t.Fatal(err)
			}
			if got := headOf(t, s.Weights[0], 12); got != "GGUF12345678" {
				t.Errorf("read %q", got)
			}
		})
	}
}

// TestHostThatWantsToBeLeftAloneKeepsNobodyElseWaiting is attack 9: a Retry-After of an hour, for one model.
func TestHostThatWantsToBeLeftAloneKeepsNobodyElseWaiting(t *testing.T) {
	h := newHub(t, map[string]modeltest.File{"/other.gguf": modeltest.Content("GGUF12345678")})
	h.intercept = func(w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path != "/x.gguf" {
			return false
		}
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	r := resolverFor(t, h.URL, nil)
	_, err := r.Resolve(t.Context(), h.URL+"/x.gguf")
	var e *Error
	if !errors.As(err, &e) || e.RetryAfter != maxRetryAfter {
		t.Errorf("got %v, want an error to retry after %v", err, maxRetryAfter)
	}
	if got := h.Requests(); got != 1 {
		t.Errorf("%d requests, want 1: the host asked to be left alone", got)
	}
	s, err := r.Resolve(t.Context(), h.URL+"/other.gguf")
	if err != nil {
		t.Fatalf("another model of the host: %v", err)
	}
	headOf(t, s.Weights[0], 12)
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"7":                             7 * time.Second,
		"-1":                            0,
		"99999999":                      maxRetryAfter,
		"Thu, 01 Jan 2026 00:00:30 GMT": 30 * time.Second,
		"Thu, 01 Jan 1970 00:00:30 GMT": 0,
		"soon":                          0,
		"":                              0,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestSlowBodiesAreNotWaitedFor(t *testing.T) {
	h := newHub(t, nil)
	h.intercept = func(w http.ResponseWriter, req *http.Request) bool {
		w.Header().Set("Content-Range", "bytes 0-1023/1024")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write([]byte("G"))
		w.(http.Flusher).Flush()
		<-req.Context().Done()
		return true
	}
	r := resolverFor(t, h.URL, func(c *Config) { c.AttemptTimeout = 20 * time.Millisecond })
	_, err := r.Resolve(t.Context(), h.URL+"/x.gguf")
	if ReasonOf(err) != Unreachable {
		t.Errorf("got %v, want Unreachable", err)
	}
}

func TestCancelledResolutionEnds(t *testing.T) {
	h := newHub(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	h.intercept = func(_ http.ResponseWriter, req *http.Request) bool {
		cancel()
		<-req.Context().Done()
		return true
	}
	if _, err := resolverFor(t, h.URL, nil).Resolve(ctx, h.URL+"/x.gguf"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	if got := h.Requests(); got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
}

func TestBytesOfOneModelAreLimited(t *testing.T) {
	h := newHub(t, map[string]modeltest.File{"/x.gguf": {Head: pattern(100), Size: 1 << 40}})
	r := resolverFor(t, h.URL, func(c *Config) { c.MaxBytes = 1 << 20 })
	s, err := r.Resolve(t.Context(), h.URL+"/x.gguf")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, io.NewSectionReader(s.Weights[0], 0, s.Weights[0].Size()))
	if ReasonOf(err) != BadFile {
		t.Errorf("reading a terabyte: %v, want BadFile", err)
	}
	if got := h.Bytes(); got > 8<<20 {
		t.Errorf("%d bytes were sent for a limit of 1 MiB", got)
	}
}

func TestLargeAnswersOfAnAPIAreRefused(t *testing.T) {
	for _, announced := range []bool{true, false} {
		h := newHub(t, nil)
		h.intercept = func(w http.ResponseWriter, _ *http.Request) bool {
			if announced {
				w.Header().Set("Content-Length", fmt.Sprint(1<<30))
			}
			chunk := bytes.Repeat([]byte(" "), 1<<20)
			for range 12 {
				if _, err := w.Write(chunk); err != nil {
					break
				}
			}
			return true
		}
		for _, uri := range []string{"hf://a/b", "ollama://a"} {
			if _, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), uri); ReasonOf(err) != BadFile {
				t.Errorf("announced %v: Resolve(%s): %v, want BadFile", announced, uri, err)
			}
		}
	}
}

func TestFileThatChangesWhileItIsReadIsNoticed(t *testing.T) {
	h := newHub(t, map[string]modeltest.File{"/x.gguf": {Head: pattern(100), Size: 1 << 20}})
	var asked atomic.Int64
	h.intercept = func(w http.ResponseWriter, req *http.Request) bool {
		if asked.Add(1) > 1 {
			http.ServeContent(etagWriter{w}, req, "", time.Time{}, bytes.NewReader(pattern(1<<20)))
			return true
		}
		return false
	}
	s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), h.URL+"/x.gguf")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Weights[0].ReadAt(make([]byte, 10), 500_000); ReasonOf(err) != Unreachable {
		t.Errorf("got %v, want Unreachable, to be read again from the beginning", err)
	}
}

type etagWriter struct{ http.ResponseWriter }

func (w etagWriter) WriteHeader(code int) {
	w.Header().Set("ETag", `"v2"`)
	w.ResponseWriter.WriteHeader(code)
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-1/2", "bytes 0-1/*", "bytes */2", "bytes 9223372036854775807-9223372036854775807/*", "bytes -1-2/3", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, total, err := parseContentRange(s)
		if err == nil && (start < 0 || total < -1 || total >= 0 && start >= total) {
			t.Errorf("parseContentRange(%q) = %d, %d", s, start, total)
		}
	})
}
