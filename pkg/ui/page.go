// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

// contentTypes are of the files of the page, whatever the machine takes them to be.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".json": "application/json",
	".mjs": "text/javascript; charset=utf-8", ".png": "image/png", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
}

// index sends the page to who has the token in the address.
func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	if !s.guard.isToken(r.URL.Query().Get("token")) {
		w.Header().Set("Content-Type", contentTypes[".txt"])
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("Open the address that kubectl berth ui printed, with its token.\n"))
		return
	}
	s.sendFile(w, r, "index.html")
}

// assets sends what the page loads. It is the same for everybody, and tells nothing.
func (s *Server) assets() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.sendFile(w, r, strings.TrimPrefix(r.URL.Path, "/")) })
}

// sendFile sends a file of the page. The file system takes no path that leads out of it.
func (s *Server) sendFile(w http.ResponseWriter, r *http.Request, name string) {
	content, err := fs.ReadFile(s.page, name)
	if err != nil {
		writeError(w, http.StatusNotFound, "there is no "+quoted(r.URL.Path))
		return
	}
	kind := cmp.Or(contentTypes[path.Ext(name)], "application/octet-stream")
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	w.Header().Set("Content-Type", kind)
	if name != "index.html" {
		w.Header().Set("Cache-Control", "no-cache") // kept, and asked for again: a newer program has others
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	_, _ = w.Write(content)
}
