// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"github.com/berth-dev/berth/internal/jsonsize"
)

// maxListing is the largest answer of the hub's API that is read: a repository of ten thousand files.
const maxListing = 8 << 20

// resolveHuggingFace speaks the protocol of huggingface.co: GET /api/models/REPO/revision/REV?blobs=true lists the
// files at a revision, GET /REPO/resolve/REV/FILE answers (or redirects to) a file. Mirrors that only serve files are
// asked for those that must be there.
func (r *Resolver) resolveHuggingFace(ctx context.Context, ref HuggingFaceRef, b *budget) (*Snapshot, error) {
	commit, entries, err := r.listHuggingFace(ctx, ref, b)
	open := func(revision string) func(entry) (File, error) {
		return func(e entry) (File, error) {
			u := r.huggingFace.JoinPath(ref.Repo, "resolve", url.PathEscape(revision), escapePath(e.name))
			return newRemoteFile(ctx, r.fetcher, u, e.name, e.size, b)
		}
	}
	var s *Snapshot
	switch {
	case err == nil:
		c, err := choose(entries, ref.Path, ref.uriOf)
		if err != nil {
			return nil, err
		}
		if s, err = assemble(c, open(commit)); err != nil {
			return nil, err
		}
	case isPlainNotFound(err):
		if s, err = probe(ref.Path, open(ref.Revision)); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	if s.Revision = commit; commit == "" {
		s.Revision = ref.Revision
		if f, ok := s.Weights[0].(*remoteFile); ok && f.header.Get("X-Repo-Commit") != "" {
			s.Revision = f.header.Get("X-Repo-Commit")
		}
	}
	return s, nil
}

// listingOf is the address of the list of a repository's files.
func (r *Resolver) listingOf(ref HuggingFaceRef) *url.URL {
	u := r.huggingFace.JoinPath("api/models", ref.Repo, "revision", url.PathEscape(ref.Revision))
	u.RawQuery = "blobs=true"
	return u
}

// hubModel is the part of the API's answer that is used.
type hubModel struct {
	SHA      string `json:"sha"`
	Siblings []struct {
		Name   string `json:"rfilename"`
		Size   *int64 `json:"size"`
		BlobID string `json:"blobId"`
		LFS    *struct {
			SHA256 string `json:"sha256"`
			Size   int64  `json:"size"`
		} `json:"lfs"`
	} `json:"siblings"`
}

// listHuggingFace lists the files of a repository. Files are then read at the commit that is returned, so that they
// are of one version though somebody pushes meanwhile.
func (r *Resolver) listHuggingFace(ctx context.Context, ref HuggingFaceRef, b *budget) (commit string, entries []entry, err error) {
	u := r.listingOf(ref)
	rep, err := r.fetcher.get(ctx, request{url: u, accept: "application/json", length: maxListing, budget: b})
	if err != nil {
		return "", nil, err
	}
	if n := jsonsize.Values(rep.body); n > maxListedValues {
		return "", nil, errorf(BadFile, "%s: an answer of %d values where at most %d make sense", redacted(u), n, maxListedValues)
	}
	var m hubModel
	if err := json.Unmarshal(rep.body, &m); err != nil {
		return "", nil, &Error{Reason: BadFile, Message: redacted(u) + ": not an answer of a model hub", Err: err}
	}
	for _, f := range m.Siblings {
		if !isCleanPath(f.Name) {
			continue
		}
		e := entry{name: f.Name, size: -1, id: f.BlobID}
		if f.Size != nil && *f.Size >= 0 {
			e.size = *f.Size
		}
		if f.LFS != nil {
			e.id = f.LFS.SHA256
		}
		entries = append(entries, e)
	}
	if m.SHA == "" {
		m.SHA = ref.Revision
	}
	return m.SHA, entries, nil
}

// escapePath escapes what a file name may hold but an address may not.
func escapePath(name string) string {
	segments := strings.Split(name, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return strings.Join(segments, "/")
}

// isPlainNotFound says whether err is a 404 of a server that does not know the API, rather than the hub's word.
func isPlainNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == NotFound && !e.hubSays
}

// uriOf is the hf:// form of a file.
func (ref HuggingFaceRef) uriOf(file string) string {
	uri := "hf://" + ref.Repo
	if ref.Revision != "main" {
		uri += "@" + strings.ReplaceAll(ref.Revision, "/", "%2F")
	}
	return uri + "/" + file
}
