// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/pkg/cli/usage"
	"github.com/berth-dev/berth/pkg/cli/whatif"
)

// asks is a question that a request asks.
type asks func(ctx context.Context, r *http.Request) (any, error)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.index)
	mux.Handle("GET /assets/", s.assets())
	mux.HandleFunc("GET /api/v1/session", func(w http.ResponseWriter, r *http.Request) {
		body, err := compressed(s.session())
		s.reply(w, r, body, err)
	})
	mux.Handle("GET /api/v1/map", s.get(s.looks, s.gpuMap, "node"))
	mux.Handle("GET /api/v1/usage", s.get(s.looks, s.usage, "by", "namespace", "node"))
	mux.Handle("GET /api/v1/history", s.get(s.looks, s.history))
	mux.Handle("GET /api/v1/models", s.get(s.looks, s.models))
	mux.Handle("GET /api/v1/pods/{namespace}/{name}/explain", s.get(s.simulations, s.explain))
	mux.Handle("GET /api/v1/what-if", s.get(s.simulations, s.plans))
	mux.Handle("POST /api/v1/what-if", s.post(s.simulations, s.whatIf))
	mux.Handle("POST /api/v1/manifest", s.post(s.looks, s.manifest))
	mux.HandleFunc("GET /api/v1/changes", s.changes)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		// The mux would tell of other methods in its own form.
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != "/" && pattern != "" {
				writeError(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here")
				return
			}
		}
		writeError(w, http.StatusNotFound, "there is no "+quoted(r.URL.Path))
	})
	return mux
}

// get answers a question that has one answer in each revision. The parameters are those that it may have.
func (s *Server) get(turn *gate, ask asks, parameters ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		for name := range query {
			if !slices.Contains(parameters, name) {
				err = errors.Join(err, fmt.Errorf("there is no parameter %s", quoted(name)))
			}
		}
		if err != nil {
			writeError(w, http.StatusBadRequest, err.Error())
			return
		}
		revision, _ := s.world.revisions.now()
		tag := `"` + strconv.FormatInt(revision, 10) + `"`
		w.Header().Set("ETag", tag)
		w.Header().Set("Berth-Revision", strconv.FormatInt(revision, 10))
		if slices.Contains(strings.Split(strings.ReplaceAll(r.Header.Get("If-None-Match"), " ", ""), ","), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		body, err := s.answered.get(r.Context(), revision, r.URL.EscapedPath()+"?"+query.Encode(), func(ctx context.Context) (any, error) {
			return turn.do(ctx, func(ctx context.Context) (any, error) {
				began := time.Now()
				defer func() { s.world.revisions.answered(time.Since(began)) }()
				return ask(ctx, r)
			})
		})
		s.reply(w, r, body, err)
	})
}

// post answers a question that has a body.
func (s *Server) post(turn *gate, ask asks) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			writeError(w, http.StatusUnsupportedMediaType, "the body has to be application/json")
			return
		}
		// It is read before its turn comes: who sends slowly keeps nobody waiting.
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // not all writers have one: those of tests have none
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		_ = control.SetReadDeadline(time.Time{})
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			err = &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", long.Limit)}
		}
		if err != nil {
			s.reply(w, r, nil, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(text))
		revision, _ := s.world.revisions.now()
		w.Header().Set("Berth-Revision", strconv.FormatInt(revision, 10))
		doc, err := turn.do(r.Context(), func(ctx context.Context) (any, error) { return ask(ctx, r) })
		var body []byte
		if err == nil {
			body, err = compressed(doc)
		}
		s.reply(w, r, body, err)
	})
}

// reply sends a compressed document, or why there is none.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, body []byte, err error) {
	if err != nil {
		if r.Context().Err() == nil { // else there is nobody to tell
			writeError(w, statusOf(err), err.Error())
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
		return
	}
	if plain, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
		_, _ = io.Copy(w, plain)
	}
}

// read reads the body of a request.
func read(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.Join(errors.New("there is something after the question"), more)
		}
	}
	if err != nil {
		return &refusal{http.StatusBadRequest, "the body cannot be read: " + err.Error()}
	}
	return nil
}

func (s *Server) gpuMap(ctx context.Context, r *http.Request) (any, error) {
	return s.world.source.Map(ctx, r.URL.Query()["node"]...)
}

func (s *Server) usage(ctx context.Context, r *http.Request) (any, error) {
	query := r.URL.Query()
	by, err := usage.ParseBy(query.Get("by"))
	if err != nil {
		return nil, err
	}
	return s.world.source.Usage(ctx, by, query.Get("namespace"), query["node"]...)
}

func (s *Server) explain(ctx context.Context, r *http.Request) (any, error) {
	return s.world.source.Explain(ctx, r.PathValue("namespace"), r.PathValue("name"), false)
}

func (s *Server) plans(ctx context.Context, _ *http.Request) (any, error) {
	return s.world.source.WhatIf(ctx, &whatif.Question{})
}

func (s *Server) whatIf(ctx context.Context, r *http.Request) (any, error) {
	var asked Question
	if err := read(r, &asked); err != nil {
		return nil, err
	}
	q, err := asked.question(s.world.source.Namespace)
	if err != nil {
		return nil, err
	}
	return s.world.source.WhatIf(ctx, q)
}

func (s *Server) manifest(_ context.Context, r *http.Request) (any, error) {
	var form Form
	if err := read(r, &form); err != nil {
		return nil, err
	}
	text, err := form.manifest()
	return Manifest{TypeMeta: typeOf(KindManifest), Manifest: text}, err
}
