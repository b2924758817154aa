// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"time"

	"golang.org/x/sync/semaphore"
)

// Endpoints of the public hubs.
const (
	DefaultHuggingFaceEndpoint = "https://huggingface.co"
	DefaultOllamaEndpoint      = "https://registry.ollama.ai"
)

// Config is what a Resolver is made of. Zero fields have the defaults that are said.
type Config struct {
	// HuggingFaceEndpoint and OllamaEndpoint are the hubs, or mirrors that speak their protocols; default: the
	// public ones. They have to be endpoints of the Policy too, unless its list of hosts has them.
	HuggingFaceEndpoint, OllamaEndpoint string
	// Policy says where requests may go; nil lets none through.
	Policy *Policy
	// Credentials are the admin's; nil means none.
	Credentials Credentials
	// Roots are the folders that file:// may read from; none by default.
	Roots []string
	// Proxy chooses the proxy of a request; default: HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment.
	Proxy func(*http.Request) (*url.URL, error)
	// RootCAs verify servers; default: the system's.
	RootCAs *x509.CertPool
	// Discreet says that whoever is told of failures is not who may read the models: see Snapshot.Told.
	Discreet bool
	// UserAgent is told to sources; default "berth-controller".
	UserAgent string
	// AttemptTimeout bounds one request, its body included; default 30s. Backoff is the wait before the first
	// retry, doubled for each further one; default 500ms.
	AttemptTimeout, Backoff time.Duration
	// MaxBytes is how much may be read of one model; default 64 MiB.
	MaxBytes int64
	// OwnBytes is how much of each model may be read whatever others are, and SharedBytes how much of all models that
	// are read at once may be read beyond that; default 12 MiB, more than the header of a model with a vocabulary of
	// 256,000 has, and 64 MiB.
	OwnBytes, SharedBytes int64
}

// Resolver finds the files of models. It is safe for concurrent use.
type Resolver struct {
	fetcher     *fetcher
	policy      *Policy
	huggingFace *url.URL
	ollama      *url.URL
	roots       []string
	discreet    bool
	maxBytes    int64
	memory      *memory
}

// NewResolver makes a Resolver.
func NewResolver(cfg Config) (*Resolver, error) {
	setDefault(&cfg.HuggingFaceEndpoint, DefaultHuggingFaceEndpoint)
	setDefault(&cfg.OllamaEndpoint, DefaultOllamaEndpoint)
	setDefault(&cfg.UserAgent, "berth-controller")
	setDefault(&cfg.AttemptTimeout, 30*time.Second)
	setDefault(&cfg.Backoff, 500*time.Millisecond)
	setDefault(&cfg.MaxBytes, 64<<20)
	setDefault(&cfg.OwnBytes, 12<<20)
	setDefault(&cfg.SharedBytes, 64<<20)
	if cfg.Policy == nil {
		cfg.Policy = new(Policy)
	}
	hf, err := parseEndpoint(cfg.HuggingFaceEndpoint)
	if err != nil {
		return nil, fmt.Errorf("hugging face: %w", err)
	}
	ollama, err := parseEndpoint(cfg.OllamaEndpoint)
	if err != nil {
		return nil, fmt.Errorf("ollama: %w", err)
	}
	return &Resolver{
		fetcher: &fetcher{
			client:         newHTTPClient(&cfg),
			policy:         cfg.Policy,
			attemptTimeout: cfg.AttemptTimeout,
			backoff:        cfg.Backoff,
			userAgent:      cfg.UserAgent,
		},
		policy:      cfg.Policy,
		huggingFace: hf,
		ollama:      ollama,
		roots:       cfg.Roots,
		discreet:    cfg.Discreet,
		maxBytes:    cfg.MaxBytes,
		memory:      &memory{own: cfg.OwnBytes, shared: semaphore.NewWeighted(cfg.SharedBytes)},
	}, nil
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Resolve finds the files of the model at uri. They can be read until ctx is done or the Snapshot is closed.
func (r *Resolver) Resolve(ctx context.Context, uri string) (*Snapshot, error) {
	ref, err := Parse(uri)
	if err != nil {
		return nil, err
	}
	b := r.memory.newBudget(r.maxBytes)
	ctx, shown := notingCredentials(ctx)
	s, err := r.find(ctx, uri, ref, b)
	if err != nil {
		_ = b.Close() // never fails
		return nil, r.told(ctx, uri, ref, shown, nil, err)
	}
	s.closers = append(s.closers, b)
	s.told = func(err error) error { return r.told(ctx, uri, ref, shown, s, err) }
	return s, nil
}

func (r *Resolver) find(ctx context.Context, uri string, ref Ref, b *budget) (*Snapshot, error) {
	switch ref := ref.(type) {
	case HuggingFaceRef:
		return r.resolveHuggingFace(ctx, ref, b)
	case OllamaRef:
		return r.resolveOllama(ctx, ref, b)
	case WebRef:
		return r.resolveWeb(ctx, ref, b)
	case FileRef:
		return r.resolveFile(ref, b)
	}
	return nil, errorf(Unsupported, "%q names no files", uri)
}

// fingerprint condenses what is known of the versions of files.
func fingerprint(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// assemble opens the files of a choice.
func assemble(c *choice, open func(entry) (File, error)) (*Snapshot, error) {
	s := &Snapshot{Format: c.format, Configs: map[string]File{}}
	var known []string
	add := func(e entry) (File, error) {
		f := e.file
		if f == nil {
			var err error
			if f, err = open(e); err != nil {
				return nil, err
			}
		}
		id := e.id
		if rf, ok := f.(*remoteFile); ok && id == "" {
			id = rf.version()
		}
		known = append(known, e.name, fmt.Sprint(f.Size()), id)
		return f, nil
	}
	for _, e := range c.weights {
		f, err := add(e)
		if err != nil {
			return nil, err
		}
		s.Weights = append(s.Weights, f)
	}
	if c.projector != nil {
		f, err := add(*c.projector)
		if err != nil {
			return nil, err
		}
		s.Projector = f
	}
	for _, e := range c.configs {
		f, err := add(e)
		if err != nil {
			return nil, err
		}
		s.Configs[path.Base(e.name)] = f
	}
	s.ETag = fingerprint(known...)
	return s, nil
}
