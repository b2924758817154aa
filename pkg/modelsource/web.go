// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"path"
)

// resolveWeb reads a model from a web server: the file that the URL names, the other parts of a split one, and for
// safetensors the config.json beside it.
func (r *Resolver) resolveWeb(ctx context.Context, ref WebRef, b *budget) (*Snapshot, error) {
	if err := r.policy.checkURL(ref.URL); err != nil {
		return nil, err
	}
	folder, name := path.Split(ref.URL.Path)
	if name != "" && path.Ext(name) == "" {
		folder, name = ref.URL.Path, ""
	}
	open := func(e entry) (File, error) {
		u := *ref.URL
		u.Path, u.RawPath = path.Join("/", folder, e.name), ""
		return newRemoteFile(ctx, r.fetcher, &u, e.name, e.size, b)
	}
	s, err := probe(name, open)
	if err != nil {
		return nil, err
	}
	if f, ok := s.Weights[0].(*remoteFile); ok {
		s.Revision = f.version()
	}
	return s, nil
}
