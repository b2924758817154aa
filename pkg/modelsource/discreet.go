// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
)

type (
	anonymousKey struct{}
	shownKey     struct{}
)

// anonymously returns a context whose requests show no credentials.
func anonymously(ctx context.Context) context.Context {
	return context.WithValue(ctx, anonymousKey{}, true)
}

func isAnonymous(ctx context.Context) bool { return ctx.Value(anonymousKey{}) != nil }

// notingCredentials returns a context whose requests note that they showed credentials to somebody.
func notingCredentials(ctx context.Context) (context.Context, *atomic.Bool) {
	shown := new(atomic.Bool)
	return context.WithValue(ctx, shownKey{}, shown), shown
}

func noteCredentials(ctx context.Context) {
	if shown, ok := ctx.Value(shownKey{}).(*atomic.Bool); ok {
		shown.Store(true)
	}
}

// told returns what may be told of a failure. Where not everybody may see what there is, "there is none" and "it is not
// whole" are one answer: else they would say what is there, one name at a time. s is the files if the failure is about what
// is in them.
func (r *Resolver) told(ctx context.Context, uri string, ref Ref, shown *atomic.Bool, s *Snapshot, err error) error {
	if !r.discreet || ReasonOf(err) == Unreachable || r.isPublic(ctx, ref, shown, s) {
		return err
	}
	return &Error{
		Reason: NotFound,
		Message: uri + ": no model that can be read is there. Either there is none, or it is not whole, or its format is not one that " +
			"Berth reads, or the controller may not read it; the controller's log says which",
		hidden: err,
	}
}

// Cause returns the failure behind one of which not everybody may be told; others as they are.
func Cause(err error) error {
	var e *Error
	if errors.As(err, &e) && e.hidden != nil {
		return e.hidden
	}
	return err
}

// isPublic says whether everybody may know what is at ref: nobody was shown credentials for it, or the source shows it to
// strangers as well, and the files too if s has them: those of gated repositories are listed for everybody, and read by few.
// What cannot be found out now is not public.
func (r *Resolver) isPublic(ctx context.Context, ref Ref, shown *atomic.Bool, s *Snapshot) bool {
	if ref, ok := ref.(FileRef); ok {
		_, _, inStore := r.storeOf(ref)
		return !inStore
	}
	if !shown.Load() {
		return true
	}
	var asked []request
	switch ref := ref.(type) {
	case HuggingFaceRef:
		asked = append(asked, request{url: r.listingOf(ref)})
	case OllamaRef:
		asked = append(asked, request{url: r.registryOf(ref).JoinPath("v2", ref.Name, "manifests", ref.Tag), accept: mediaManifest})
	case WebRef:
		asked = append(asked, request{url: ref.URL})
	}
	if s != nil {
		for _, f := range []File{s.Configs["config.json"], s.Weights[0]} {
			if rf, ok := f.(*remoteFile); ok {
				asked = append(asked, request{url: rf.url})
			}
		}
	}
	return !slices.ContainsFunc(asked, func(req request) bool { return !r.answersStrangers(ctx, req) })
}

// answersStrangers says whether a request is answered without credentials. A byte is enough to know.
func (r *Resolver) answersStrangers(ctx context.Context, req request) bool {
	req.ranged, req.length = true, 1
	req.budget = r.memory.newBudget(req.length)
	defer req.budget.Close() //nolint:errcheck // never fails
	_, err := r.fetcher.once(anonymously(ctx), req)
	return err == nil
}

// Host returns what answers first for a model: "https://huggingface.co:443", or the folder of a model store; "" for what no
// host is asked for.
func (r *Resolver) Host(uri string) string {
	ref, err := Parse(uri)
	if err != nil {
		return ""
	}
	switch ref := ref.(type) {
	case FileRef:
		folder, _, _ := r.storeOf(ref)
		return folder
	case HuggingFaceRef:
		return originOf(r.huggingFace)
	case OllamaRef:
		return originOf(r.registryOf(ref))
	case WebRef:
		return originOf(ref.URL)
	}
	return ""
}
