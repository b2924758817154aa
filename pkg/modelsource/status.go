// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/berth-dev/berth/internal/redact"
)

// transportError explains a request that got no answer, or not all of one.
func transportError(u *url.URL, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e // the policy's or the credentials'
	}
	// A url.Error repeats the whole address, which after redirects holds signatures.
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var ne net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{Reason: Unreachable, Message: u.Host + " was not waited for", Err: err}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return &Error{Reason: Unreachable, Message: u.Host + " did not answer in time"}
	}
	return &Error{Reason: Unreachable, Message: u.Host + " cannot be read", Err: err}
}

// statusError explains an answer that is not the file; nil for 200 and 206.
func statusError(u *url.URL, resp *http.Response) error {
	// The hub says in a header of its own what it means: to strangers it answers 401 for what does not exist.
	hubCode := resp.Header.Get("X-Error-Code")
	switch code := resp.StatusCode; {
	case code == http.StatusOK, code == http.StatusPartialContent:
		return nil
	case code == http.StatusUnauthorized && hubCode == "RepoNotFound":
		e := errorf(NotFound, "%s knows no such model, or it is private and the controller's token cannot read it", u.Host)
		e.hubSays = true
		return e
	case hubCode == "GatedRepo":
		return errorf(Unauthorized, "the model is gated on %s: its licence must be accepted by the account of the controller's token", u.Host)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return errorf(Unauthorized, "%s: refused by the source (%d): an admin can give the controller a token for this host", redacted(u), code)
	case code == http.StatusNotFound, code == http.StatusGone:
		e := errorf(NotFound, "%s: no such model, revision or file (%d)", redacted(u), code)
		e.hubSays = hubCode != ""
		return e
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		e := errorf(Unreachable, "%s asks to come back later (%d)", u.Host, code)
		e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
		return e
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return errorf(Unreachable, "%s has a problem of its own (%d)", u.Host, code)
	case code == http.StatusRequestedRangeNotSatisfiable:
		return errorf(BadFile, "%s: the file is empty or shorter than it was", redacted(u))
	default:
		return errorf(Unsupported, "%s: answered with status %d", redacted(u), code)
	}
}

// retryAfter reads a Retry-After header: seconds or a date.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return min(max(time.Duration(n)*time.Second, 0), maxRetryAfter)
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// redacted is u for messages: where a source redirects to has signatures in its query.
func redacted(u *url.URL) string { return redact.URI(u.String()) }
