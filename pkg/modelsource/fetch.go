// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxAttempts = 4
	// maxShortWait is the longest Retry-After that is waited for within one request; a longer one is the caller's.
	maxShortWait = 5 * time.Second
	// maxRetryAfter bounds what a source can ask for: a hub that says "next year" is asked again all the same. The window of
	// Hugging Face's own limits is 5 minutes (huggingface.co/docs/hub/rate-limits).
	maxRetryAfter = 10 * time.Minute
)

// fetcher makes requests with retries. That a host wants to be left alone (429) is said to the caller and holds for the
// model alone that was asked for: what a host answers to one URI must not keep others from it.
type fetcher struct {
	client *http.Client
	policy *Policy
	// attemptTimeout bounds one request, its body included; backoff is the wait before the first retry.
	attemptTimeout, backoff time.Duration
	userAgent               string
}

// request is one GET. Lengths are in bytes.
type request struct {
	url    *url.URL
	accept string
	// ranged asks for length bytes from offset; otherwise the whole is asked for, which may be length at most.
	ranged         bool
	offset, length int64
	budget         *budget
}

// reply is the answer to a request, read.
type reply struct {
	body []byte
	// offset is where body begins in the file: 0, whatever was asked for, when the server ignored the range.
	offset int64
	// total is the size of the whole, -1 when the server did not say.
	total  int64
	header http.Header
	// final is the address that answered, after redirects.
	final *url.URL
}

// get makes a request, again if it failed in a way that may pass: connections that fail or break off, timeouts,
// 5xx, and 429 with a short Retry-After.
func (f *fetcher) get(ctx context.Context, r request) (*reply, error) {
	if err := f.policy.checkURL(r.url); err != nil {
		return nil, err
	}
	wait := f.backoff
	for attempt := 1; ; attempt++ {
		rep, err := f.once(ctx, r)
		if err == nil {
			return rep, nil
		}
		var e *Error
		if !errors.As(err, &e) || e.Reason != Unreachable || errors.Is(err, errBusy) || attempt == maxAttempts || e.RetryAfter > maxShortWait || ctx.Err() != nil {
			return nil, err
		}
		// Half of the wait is left to chance, so that many models do not come back at the same moment.
		pause := max(e.RetryAfter, wait/2+rand.N(wait/2+1))
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
		wait *= 2
	}
}

// once makes one attempt.
func (f *fetcher) once(ctx context.Context, r request) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, f.attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url.String(), nil)
	if err != nil {
		return nil, &Error{Reason: Unsupported, Message: "not an address that can be asked", Err: err}
	}
	req.Header.Set("User-Agent", f.userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if r.ranged {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", r.offset, r.offset+r.length-1))
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, transportError(r.url, err)
	}
	defer resp.Body.Close()
	if err := statusError(r.url, resp); err != nil {
		return nil, err
	}
	return f.read(r, resp)
}

// read reads the body of an answer of 200 or 206.
func (f *fetcher) read(r request, resp *http.Response) (*reply, error) {
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, errorf(Unsupported, "%s answers with Content-Encoding %q though the file itself was asked for", r.url.Host, enc)
	}
	rep := &reply{total: resp.ContentLength, header: resp.Header, final: resp.Request.URL}
	want := r.length
	if resp.StatusCode == http.StatusPartialContent {
		start, total, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil || !r.ranged || start != r.offset {
			return nil, errorf(Unreachable, "%s answers another range than it was asked for (Content-Range %q)", r.url.Host, resp.Header.Get("Content-Range"))
		}
		rep.offset, rep.total = start, total
		if total >= 0 {
			want = min(want, total-start)
		}
	} else if r.ranged {
		// The server ignores ranges. What comes before the offset has to be read too, so it is kept.
		want = r.offset + r.length
		if rep.total >= 0 {
			want = min(want, rep.total)
		}
	} else if rep.total > r.length {
		return nil, errorf(BadFile, "%s answers with %d bytes where at most %d make sense", redacted(r.url), rep.total, r.length)
	}
	body, err := io.ReadAll(charged{io.LimitReader(resp.Body, want), r.budget})
	rep.body = body
	var own *Error
	switch {
	case errors.As(err, &own):
		return nil, err
	case err != nil:
		return nil, transportError(r.url, err)
	case r.ranged && rep.total >= 0 && int64(len(body)) < want:
		return nil, errorf(Unreachable, "%s broke off after %d of %d bytes", r.url.Host, len(body), want)
	case !r.ranged && int64(len(body)) == r.length && moreThan(resp.Body):
		return nil, errorf(BadFile, "%s answers with more than %d bytes", redacted(r.url), r.length)
	}
	return rep, nil
}

// moreThan says whether anything is left in r.
func moreThan(r io.Reader) bool {
	n, _ := io.ReadFull(r, make([]byte, 1))
	return n > 0
}

// parseContentRange reads "bytes START-END/TOTAL"; TOTAL may be "*", which is -1 here.
func parseContentRange(s string) (start, total int64, err error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, fmt.Errorf("malformed Content-Range %q", s)
	}
	start, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	total = -1
	var err3 error
	if size != "*" {
		total, err3 = strconv.ParseInt(size, 10, 64)
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, 0, err
	}
	if start < 0 || end < start || total >= 0 && end >= total || total < -1 {
		return 0, 0, fmt.Errorf("impossible Content-Range %q", s)
	}
	return start, total, nil
}
