// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/modelsource"
	"github.com/berth-dev/berth/pkg/modelsource/modelread"
)

// Resolver finds the files of a model. modelsource.Resolver is one.
type Resolver interface {
	Resolve(ctx context.Context, uri string) (*modelsource.Snapshot, error)
	// Host returns what answers first for a model.
	Host(uri string) string
}

// resolution is what is known of a model after it was looked up.
type resolution struct {
	// unchanged says that the files are those that were read before; model is nil then.
	unchanged      bool
	revision, etag string
	size           int64
	model          *estimator.Model
}

// resolve looks a model up. known is the fingerprint of the files that were read before, "" if none were; the
// headers of the same files are not read again.
func resolve(ctx context.Context, r Resolver, source, known string) (res *resolution, err error) {
	// What is read was written by strangers. The readers do not panic as far as fuzzing can tell; if one does, it
	// is one model that is not known, not a controller that dies of it again and again.
	defer func() {
		if p := recover(); p != nil {
			res, err = nil, &modelsource.Error{Reason: modelsource.BadFile, Message: fmt.Sprintf("reading the model failed badly: %v", p)}
		}
	}()
	snapshot, err := r.Resolve(ctx, source)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close()
	res = &resolution{revision: snapshot.Revision, etag: snapshot.ETag, size: snapshot.Size()}
	if known != "" && known == snapshot.ETag {
		res.unchanged = true
		return res, nil
	}
	if res.model, err = modelread.Read(ctx, snapshot, nil); err != nil {
		if ctx.Err() != nil && modelsource.ReasonOf(err) == "" {
			err = &modelsource.Error{Reason: modelsource.BadFile, Message: "reading the model took longer than it may", Err: err}
		}
		return nil, snapshot.Told(err)
	}
	return res, nil
}

// failure is why a model cannot be known, in the form that a profile's condition has.
func failure(err error) (reason modelsource.Reason, message string, retryAfter time.Duration) {
	var e *modelsource.Error
	if !errors.As(err, &e) {
		// The readers' own errors are about what is in the files.
		return modelsource.BadFile, shortened(err.Error()), 0
	}
	return e.Reason, shortened(err.Error()), e.RetryAfter
}

// maxMessage bounds what a condition and an Event say: Events are refused above 1024 bytes, and parts of a message
// may be a stranger's.
const maxMessage = 600

func shortened(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	cut := maxMessage
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}
