// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

// hub is a server that notes which credentials it is shown.
type hub struct {
	*modeltest.Server
	mu   sync.Mutex
	auth []string
	// intercept answers a request itself if it returns true.
	intercept func(w http.ResponseWriter, req *http.Request) bool
}

func newHub(t *testing.T, files map[string]modeltest.File) *hub {
	t.Helper()
	h := &hub{Server: modeltest.NewServer(t, files)}
	h.Intercept = func(w http.ResponseWriter, req *http.Request) bool {
		h.mu.Lock()
		h.auth = append(h.auth, req.Header.Get("Authorization"))
		h.mu.Unlock()
		return h.intercept != nil && h.intercept(w, req)
	}
	return h
}

// listing adds the API's answer for a repository that holds files at commit "c0ffee".
func (h *hub) listing(t *testing.T, repo, revision string, files map[string]modeltest.File) {
	t.Helper()
	type sibling struct {
		Name string `json:"rfilename"`
		Size int64  `json:"size"`
		ID   string `json:"blobId"`
	}
	siblings := []sibling{}
	for name, f := range files {
		siblings = append(siblings, sibling{Name: name, Size: f.Size, ID: "id-of-" + name})
		h.Add("/"+repo+"/resolve/c0ffee/"+name, f)
	}
	data, err := json.Marshal(map[string]any{"sha": "c0ffee", "siblings": siblings})
	if err != nil {
		t.Fatal(err)
	}
	h.Add("/api/models/"+repo+"/revision/"+revision, modeltest.Content(data))
}

// resolverFor returns a Resolver that has the server as all its endpoints.
func resolverFor(t *testing.T, endpoint string, change func(*Config)) *Resolver {
	t.Helper()
	policy, err := NewPolicy([]string{endpoint}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		HuggingFaceEndpoint: endpoint,
		OllamaEndpoint:      endpoint,
		Policy:              policy,
		Proxy:               func(*http.Request) (*url.URL, error) { return nil, nil },
		Backoff:             time.Millisecond,
		AttemptTimeout:      10 * time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	r, err := NewResolver(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// headOf reads the first n bytes of a file.
func headOf(t *testing.T, f File, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, f.Size()), b); err != nil {
		t.Fatalf("read %s: %v", f.Name(), err)
	}
	return string(b)
}

func names(files []File) string {
	var s []string
	for _, f := range files {
		s = append(s, f.Name())
	}
	return strings.Join(s, " ")
}

// pattern is n bytes of which no two ranges of the same length are alike.
func pattern(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		b.WriteByte(byte(i >> 16))
		b.WriteByte(byte(i >> 8))
		b.WriteByte(byte(i))
	}
	return b.Bytes()[:n]
}
