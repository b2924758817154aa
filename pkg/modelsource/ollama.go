// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"regexp"

	"github.com/berth-dev/berth/internal/jsonsize"
)

const (
	mediaManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaModel    = "application/vnd.ollama.image.model"
	mediaVision   = "application/vnd.ollama.image.projector"
	mediaAdapter  = "application/vnd.ollama.image.adapter"
	mediaTensor   = "application/vnd.ollama.image.tensor"
	maxManifest   = 4 << 20
)

var digestPattern = regexp.MustCompile("^sha256:[0-9a-f]{64}$")

// manifest is the part of an image manifest that is used.
type manifest struct {
	Layers []struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int64  `json:"size"`
	} `json:"layers"`
}

// registryOf is the registry that a model is in.
func (r *Resolver) registryOf(ref OllamaRef) *url.URL {
	if ref.Host != "" {
		return &url.URL{Scheme: "https", Host: ref.Host}
	}
	return r.ollama
}

// resolveOllama speaks the registry protocol: GET /v2/NAME/manifests/TAG lists the layers, and
// GET /v2/NAME/blobs/DIGEST answers (or redirects to) one, by ranges.
func (r *Resolver) resolveOllama(ctx context.Context, ref OllamaRef, b *budget) (*Snapshot, error) {
	base := r.registryOf(ref).JoinPath("v2", ref.Name)
	u := base.JoinPath("manifests", ref.Tag)
	rep, err := r.fetcher.get(ctx, request{url: u, accept: mediaManifest, length: maxManifest, budget: b})
	if err != nil {
		return nil, err
	}
	if n := jsonsize.Values(rep.body); n > maxListedValues {
		return nil, errorf(BadFile, "%s: a manifest of %d values where at most %d make sense", redacted(u), n, maxListedValues)
	}
	var m manifest
	if err := json.Unmarshal(rep.body, &m); err != nil {
		return nil, &Error{Reason: BadFile, Message: redacted(u) + ": not a manifest", Err: err}
	}
	sum := sha256.Sum256(rep.body)
	s := &Snapshot{Format: FormatGGUF, Revision: "sha256:" + hex.EncodeToString(sum[:])}
	known := []string{}
	unread := ""
	for _, layer := range m.Layers {
		switch layer.MediaType {
		case mediaModel, mediaVision, mediaAdapter:
		case mediaTensor:
			unread = layer.MediaType
			continue
		default:
			continue // templates, licences, parameters
		}
		if !digestPattern.MatchString(layer.Digest) || layer.Size <= 0 {
			return nil, errorf(BadFile, "%s: a layer of %d bytes with the digest %q", redacted(u), layer.Size, layer.Digest)
		}
		f, err := newRemoteFile(ctx, r.fetcher, base.JoinPath("blobs", layer.Digest), layer.Digest, layer.Size, b)
		if err != nil {
			return nil, err
		}
		switch layer.MediaType {
		case mediaModel:
			s.Weights = append(s.Weights, f)
		case mediaVision:
			s.Projector = f
		case mediaAdapter:
			s.Adapters = append(s.Adapters, f)
		}
		known = append(known, layer.MediaType, layer.Digest)
	}
	switch {
	case unread != "":
		return nil, errorf(Unsupported, "the model is stored tensor by tensor (%s), which Berth does not read; use a tag that is a GGUF file", unread)
	case len(s.Weights) == 0:
		return nil, errorf(Unsupported, "%s: the manifest has no model in it (a cloud model has no weights to run)", redacted(u))
	}
	s.ETag = fingerprint(known...)
	return s, nil
}
