// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// File is one file of a model. ReadAt fetches what it is asked for, and fails with an *Error.
type File interface {
	io.ReaderAt
	// Name is the path of the file within its model.
	Name() string
	// Size is the size of the whole file in bytes.
	Size() int64
}

const (
	// minWindow is what a first read fetches: the whole header of a safetensors shard, or enough of a GGUF file to
	// see what it is. Reads that go on from there fetch twice as much each time, up to maxWindow, so that a header
	// of 8 MiB takes 7 requests and costs at most maxWindow more than its size.
	minWindow = 64 << 10
	maxWindow = 4 << 20
	// maxKept is how much of a file is remembered. Headers are read front to back, once, so what was read first is
	// let go first.
	maxKept = 16 << 20
)

// remoteFile reads a file by ranges and keeps what it read.
type remoteFile struct {
	// ctx is that of Resolve: io.ReaderAt has no context of its own, and a File is not used after its resolution.
	ctx    context.Context
	f      *fetcher
	url    *url.URL
	name   string
	budget *budget

	mu   sync.Mutex
	size int64 // -1 until the first answer
	etag string
	// direct is where the source last redirected to. It is asked first as long as it answers, because hubs count
	// the requests that they redirect.
	direct  *url.URL
	extents []extent // in the order in which they were read
	window  int64
	header  http.Header // of the first answer
}

// extent is a part of the file that was read.
type extent struct {
	offset int64
	data   []byte
}

func (e *extent) end() int64 { return e.offset + int64(len(e.data)) }

// newRemoteFile returns the file at u. When size is negative the file is asked for it, so it has to exist.
func newRemoteFile(ctx context.Context, f *fetcher, u *url.URL, name string, size int64, b *budget) (*remoteFile, error) {
	rf := &remoteFile{ctx: ctx, f: f, url: u, name: name, size: size, budget: b, window: minWindow}
	if size < 0 {
		rf.mu.Lock()
		defer rf.mu.Unlock()
		if _, err := rf.fetch(0, 1); err != nil {
			return nil, err
		}
	}
	return rf, nil
}

func (rf *remoteFile) Name() string { return rf.name }

func (rf *remoteFile) Size() int64 {
	rf.mu.Lock()
	defer rf.mu.Unlock()
	return rf.size
}

// ReadAt implements io.ReaderAt.
func (rf *remoteFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errorf(BadFile, "%s: read at the negative offset %d", rf.name, off)
	}
	rf.mu.Lock()
	defer rf.mu.Unlock()
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= rf.size {
			return n, io.EOF
		}
		e := rf.find(at)
		if e == nil {
			var err error
			if e, err = rf.fetch(at, int64(len(p)-n)); err != nil {
				return n, err
			}
		}
		n += copy(p[n:], e.data[at-e.offset:])
	}
	return n, nil
}

// Forget lets go of what was read, once nothing of it is needed any more.
func (rf *remoteFile) Forget() {
	rf.mu.Lock()
	defer rf.mu.Unlock()
	rf.extents = nil
}

// find returns the extent that holds the byte at off, nil when it was not read yet.
func (rf *remoteFile) find(off int64) *extent {
	for i := range rf.extents {
		if e := &rf.extents[i]; e.offset <= off && off < e.end() {
			return e
		}
	}
	return nil
}

// fetch reads at least one byte at off, and more in the expectation that it will be asked for next. It returns the
// extent that now holds off.
func (rf *remoteFile) fetch(off, length int64) (*extent, error) {
	sequential := slices.ContainsFunc(rf.extents, func(e extent) bool { return e.end() == off })
	if sequential {
		rf.window = min(rf.window*2, maxWindow)
	} else {
		rf.window = minWindow
	}
	length = min(max(length, rf.window), maxWindow)
	if rf.size >= 0 {
		length = min(length, rf.size-off)
	}
	rep, err := rf.ask(off, length)
	if err != nil {
		return nil, err
	}
	if err := rf.check(rep); err != nil {
		return nil, err
	}
	e := extent{offset: rep.offset, data: rep.body}
	if e.end() <= off {
		return nil, errorf(Unreachable, "%s sent nothing of what it was asked for", rf.url.Host)
	}
	// What an answer covers again (a server that ignores ranges begins at 0) need not be kept twice.
	rf.extents = slices.DeleteFunc(rf.extents, func(old extent) bool { return e.offset <= old.offset && old.end() <= e.end() })
	rf.extents = append(rf.extents, e)
	kept := 0
	for i := range rf.extents {
		kept += len(rf.extents[i].data)
	}
	for kept > maxKept && len(rf.extents) > 1 {
		kept -= len(rf.extents[0].data)
		rf.extents = slices.Delete(rf.extents, 0, 1)
	}
	return &rf.extents[len(rf.extents)-1], nil
}

// ask gets a range from where the source redirected to last time, or from the source itself.
func (rf *remoteFile) ask(off, length int64) (*reply, error) {
	r := request{url: rf.url, ranged: true, offset: off, length: length, budget: rf.budget}
	if rf.direct != nil {
		r.url = rf.direct
		rep, err := rf.f.get(rf.ctx, r)
		if err == nil || rf.ctx.Err() != nil {
			return rep, err
		}
		// Addresses that stores sign expire; the source signs another.
		rf.direct, r.url = nil, rf.url
	}
	return rf.f.get(rf.ctx, r)
}

// check holds an answer against the first one: all parts must be of one version of the file.
func (rf *remoteFile) check(rep *reply) error {
	if rf.size < 0 {
		rf.size = rep.total
	}
	if rf.size < 0 {
		return errorf(Unsupported, "%s: the source does not say how large the file is", redacted(rf.url))
	}
	etag := rep.header.Get("ETag")
	if rep.total >= 0 && rep.total != rf.size || rf.etag != "" && etag != "" && etag != rf.etag {
		return errorf(Unreachable, "%s changed while it was read", redacted(rf.url))
	}
	if rf.etag == "" {
		rf.etag = etag
	}
	if rf.header == nil {
		rf.header = rep.header
	}
	if rep.final != nil && rep.final.Host != rf.url.Host {
		rf.direct = rep.final
	}
	return nil
}

// version is a fingerprint of the file by what the server says of it, "" when it says nothing that changes with it.
func (rf *remoteFile) version() string {
	rf.mu.Lock()
	defer rf.mu.Unlock()
	for _, key := range []string{"X-Linked-Etag", "ETag", "Last-Modified"} {
		if v := rf.header.Get(key); v != "" {
			return strings.Trim(strings.TrimPrefix(v, "W/"), `"`)
		}
	}
	return ""
}

// readAll reads a small file whole. It fails with BadFile when the file is larger than limit.
func readAll(f File, limit int64) ([]byte, error) {
	size := f.Size()
	if size > limit {
		return nil, errorf(BadFile, "%s has %d bytes where at most %d make sense", f.Name(), size, limit)
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); err != nil && (!errors.Is(err, io.EOF) || int64(n) < size) {
		return nil, err
	}
	return data, nil
}
