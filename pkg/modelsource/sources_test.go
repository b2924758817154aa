// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

func TestHuggingFaceFilesAreReadAtOneCommit(t *testing.T) {
	h := newHub(t, map[string]modeltest.File{})
	h.listing(t, "org/repo", "main", map[string]modeltest.File{
		"config.json":                      modeltest.Content("{}"),
		"model-00002-of-00002.safetensors": modeltest.Content("second"),
		"model-00001-of-00002.safetensors": modeltest.Content("first!"),
		"consolidated.safetensors":         modeltest.Content("the same again"),
		"original/model.safetensors":       modeltest.Content("and again"),
		"adapter_model.safetensors":        modeltest.Content("lora"),
		"README.md":                        modeltest.Content("hello"),
	})
	s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), "hf://org/repo")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(s.Weights), "model-00001-of-00002.safetensors model-00002-of-00002.safetensors"; got != want {
		t.Errorf("weights %q, want %q", got, want)
	}
	if s.Format != FormatSafetensors || s.Revision != "c0ffee" || s.Size() != 12 {
		t.Errorf("got format %s, revision %s, size %d", s.Format, s.Revision, s.Size())
	}
	if got := headOf(t, s.Weights[1], 6); got != "second" {
		t.Errorf("read %q", got)
	}
	if got, err := s.ReadConfig("config.json"); err != nil || string(got) != "{}" {
		t.Errorf("config.json is %q, %v", got, err)
	}
	if got, err := s.ReadConfig("hf_quant_config.json"); err != nil || got != nil {
		t.Errorf("a config that is not there is %q, %v", got, err)
	}
}

func TestFingerprintFollowsTheModelNotItsReadme(t *testing.T) {
	etag := func(weights, readme string) string {
		h := newHub(t, map[string]modeltest.File{})
		h.listing(t, "o/r", "main", map[string]modeltest.File{"x.gguf": modeltest.Content("x")})
		answer := fmt.Sprintf(`{"sha":%q,"siblings":[{"rfilename":"x.gguf","size":1,"blobId":"b","lfs":{"sha256":%q,"size":1}},{"rfilename":"README.md","size":1,"blobId":%q}]}`, "commit"+readme, weights, readme)
		h.Add("/api/models/o/r/revision/main", modeltest.Content(answer))
		s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), "hf://o/r")
		if err != nil {
			t.Fatal(err)
		}
		return s.ETag
	}
	first := etag("w1", "r1")
	if got := etag("w1", "r2"); got != first {
		t.Error("another README changed the fingerprint")
	}
	if got := etag("w2", "r1"); got == first {
		t.Error("other weights did not change the fingerprint")
	}
}

func TestHuggingFaceChoices(t *testing.T) {
	gguf := map[string]modeltest.File{
		"x-Q4_K_M.gguf": modeltest.Content("q4"), "x-Q8_0.gguf": modeltest.Content("q8"), "mmproj-f16.gguf": modeltest.Content("eyes"), "mmproj-f32.gguf": modeltest.Content("larger eyes"),
		"big/x-00001-of-00002.gguf": modeltest.Content("part one"), "big/x-00002-of-00002.gguf": modeltest.Content("part two"), "torn/x-00001-of-00002.gguf": modeltest.Content("one"),
		"a file%1.gguf": modeltest.Content("odd name"),
	}
	h := newHub(t, map[string]modeltest.File{})
	h.listing(t, "o/r", "main", gguf)
	h.listing(t, "o/one", "v1", map[string]modeltest.File{"x.gguf": modeltest.Content("x"), "imatrix.gguf": modeltest.Content("i")})
	h.listing(t, "o/torch", "main", map[string]modeltest.File{"config.json": modeltest.Content("{}"), "pytorch_model.bin": modeltest.Content("x")})
	h.listing(t, "o/bare", "main", map[string]modeltest.File{"model.safetensors": modeltest.Content("x")})
	h.listing(t, "o/torn", "main", map[string]modeltest.File{"config.json": modeltest.Content("{}"), "model-00001-of-00002.safetensors": modeltest.Content("x")})
	h.listing(t, "o/empty", "main", map[string]modeltest.File{"README.md": modeltest.Content("x")})
	for _, tc := range []struct {
		name, uri, want, projector string
		reason                     Reason
		message                    string
	}{
		{"a named file, with its vision tower", "hf://o/r/x-Q4_K_M.gguf", "x-Q4_K_M.gguf", "mmproj-f32.gguf", "", ""},
		{"a file with characters that addresses escape", "hf://o/r/a file%1.gguf", "a file%1.gguf", "mmproj-f32.gguf", "", ""},
		{"all parts of a split file", "hf://o/r/big/x-00002-of-00002.gguf", "big/x-00001-of-00002.gguf big/x-00002-of-00002.gguf", "", "", ""},
		{"a folder", "hf://o/r/big", "big/x-00001-of-00002.gguf big/x-00002-of-00002.gguf", "", "", ""},
		{"the only model of a repository", "hf://o/one@v1", "x.gguf", "", "", ""},
		{"several models", "hf://o/r", "", "", Unsupported, "name one, hf://o/r/a file%1.gguf"},
		{"a missing part", "hf://o/r/torn", "", "", BadFile, "torn/x-00002-of-00002.gguf"},
		{"a file that is not there", "hf://o/r/y.gguf", "", "", NotFound, "y.gguf"},
		{"a file that is no model", "hf://o/empty/README.md", "", "", Unsupported, "neither a .gguf"},
		{"PyTorch weights", "hf://o/torch", "", "", Unsupported, "PyTorch"},
		{"safetensors without a config", "hf://o/bare", "", "", Unsupported, "no config.json"},
		{"a missing shard", "hf://o/torn", "", "", BadFile, "1 of the 2 shards"},
		{"no model at all", "hf://o/empty", "", "", Unsupported, "no GGUF or safetensors"},
		{"no such repository", "hf://o/none", "", "", NotFound, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), tc.uri)
			if got := ReasonOf(err); got != tc.reason || err != nil && !strings.Contains(err.Error(), tc.message) {
				t.Fatalf("got %v (%q), want %q with %q", err, got, tc.reason, tc.message)
			}
			if err != nil {
				return
			}
			projector := ""
			if s.Projector != nil {
				projector = s.Projector.Name()
			}
			if names(s.Weights) != tc.want || projector != tc.projector {
				t.Errorf("weights %q and projector %q, want %q and %q", names(s.Weights), projector, tc.want, tc.projector)
			}
			headOf(t, s.Weights[0], 1)
		})
	}
}

func TestMirrorThatOnlyServesFiles(t *testing.T) {
	index, err := json.Marshal(map[string]any{"weight_map": map[string]string{"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors", "c": "model-00001-of-00002.safetensors"}})
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(t, map[string]modeltest.File{
		"/o/gguf/resolve/main/x-00001-of-00002.gguf":                 modeltest.Content("GGUF1"),
		"/o/gguf/resolve/main/x-00002-of-00002.gguf":                 modeltest.Content("GGUF2"),
		"/o/one/resolve/main/config.json":                            modeltest.Content("{}"),
		"/o/one/resolve/main/model.safetensors":                      modeltest.Content("x"),
		"/o/many/resolve/refs/pr/1/config.json":                      modeltest.Content("{}"),
		"/o/many/resolve/refs/pr/1/model.safetensors.index.json":     modeltest.Content(string(index)),
		"/o/many/resolve/refs/pr/1/model-00001-of-00002.safetensors": modeltest.Content("first"),
		"/o/many/resolve/refs/pr/1/model-00002-of-00002.safetensors": modeltest.Content("second"),
	})
	for uri, want := range map[string]string{
		"hf://o/gguf/x-00001-of-00002.gguf": "x-00001-of-00002.gguf x-00002-of-00002.gguf",
		"hf://o/one":                        "model.safetensors",
		"hf://o/many@refs%2Fpr%2F1":         "model-00001-of-00002.safetensors model-00002-of-00002.safetensors",
	} {
		s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), uri)
		if err != nil {
			t.Errorf("Resolve(%s): %v", uri, err)
			continue
		}
		if got := names(s.Weights); got != want {
			t.Errorf("Resolve(%s): weights %q, want %q", uri, got, want)
		}
	}
	if _, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), "hf://o/none"); ReasonOf(err) != NotFound {
		t.Errorf("got %v, want NotFound", err)
	}
}

func TestIndexThatNamesOtherFoldersIsRefused(t *testing.T) {
	for _, shard := range []string{"../../secret.safetensors", "/etc/passwd", "a/b.safetensors", ""} {
		index, err := json.Marshal(map[string]any{"weight_map": map[string]string{"a": shard}})
		if err != nil {
			t.Fatal(err)
		}
		h := newHub(t, map[string]modeltest.File{
			"/m/config.json":                  modeltest.Content("{}"),
			"/m/model.safetensors.index.json": modeltest.Content(string(index)),
		})
		if _, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), h.URL+"/m/config.json"); ReasonOf(err) != BadFile {
			t.Errorf("shard %q: %v, want BadFile", shard, err)
		}
	}
}

func TestOllamaManifests(t *testing.T) {
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	layer := func(kind, digest string, size int64) string {
		return fmt.Sprintf(`{"mediaType":"application/vnd.ollama.image.%s","digest":%q,"size":%d}`, kind, digest, size)
	}
	manifest := func(layers ...string) modeltest.File {
		return modeltest.Content(`{"layers":[` + strings.Join(layers, ",") + "]}")
	}
	h := newHub(t, map[string]modeltest.File{
		"/v2/library/llava/manifests/7b":         manifest(layer("model", digest("a"), 40<<30), layer("projector", digest("b"), 100), layer("template", digest("c"), 3)),
		"/v2/library/llava/blobs/" + digest("a"): {Head: []byte("GGUF"), Size: 40 << 30},
		"/v2/me/tuned/manifests/latest":          manifest(layer("model", digest("a"), 10), layer("adapter", digest("d"), 5)),
		"/v2/library/cloud/manifests/latest":     manifest(layer("template", digest("c"), 3)),
		"/v2/library/mlx/manifests/latest":       manifest(layer("tensor", digest("c"), 3)),
		"/v2/library/evil/manifests/latest":      manifest(layer("model", "../../../secret", 3)),
		"/v2/library/zero/manifests/latest":      manifest(layer("model", digest("a"), 0)),
		"/v2/library/html/manifests/latest":      modeltest.Content("<html>"),
	})
	r := resolverFor(t, h.URL, nil)
	s, err := r.Resolve(t.Context(), "ollama://llava:7b")
	if err != nil {
		t.Fatal(err)
	}
	if s.Size() != 40<<30+100 || s.Projector == nil || headOf(t, s.Weights[0], 4) != "GGUF" || !strings.HasPrefix(s.Revision, "sha256:") {
		t.Errorf("got size %d, projector %v, revision %q", s.Size(), s.Projector, s.Revision)
	}
	if s, err = r.Resolve(t.Context(), "ollama://me/tuned"); err != nil || len(s.Adapters) != 1 {
		t.Errorf("a model with an adapter: %v", err)
	}
	for uri, want := range map[string]Reason{
		"ollama://none": NotFound, "ollama://cloud": Unsupported, "ollama://mlx": Unsupported,
		"ollama://evil": BadFile, "ollama://zero": BadFile, "ollama://html": BadFile,
		"ollama://registry.example/me/x": Unsupported, // a host that is not on the list
	} {
		if _, err := r.Resolve(t.Context(), uri); ReasonOf(err) != want {
			t.Errorf("Resolve(%s): %v, want %s", uri, err, want)
		}
	}
}

func TestWebFilesHaveAVersion(t *testing.T) {
	h := newHub(t, map[string]modeltest.File{"/m/x-00001-of-00002.gguf": modeltest.Content("one"), "/m/x-00002-of-00002.gguf": modeltest.Content("two!")})
	s, err := resolverFor(t, h.URL, nil).Resolve(t.Context(), h.URL+"/m/x-00001-of-00002.gguf")
	if err != nil {
		t.Fatal(err)
	}
	if s.Size() != 7 || s.Revision != "v1" {
		t.Errorf("size %d, revision %q", s.Size(), s.Revision)
	}
}

func TestStore(t *testing.T) {
	outside := t.TempDir()
	store := t.TempDir()
	write := func(folder, name, data string) {
		t.Helper()
		p := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(store, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(outside, "secret.gguf", "secret")
	write(store, "x.gguf", "GGUFx")
	write(store, "hf/config.json", "{}")
	write(store, "hf/model.safetensors", "weights")
	write(store, "blobs/abc", "GGUFcached")
	link(filepath.Join(outside, "secret.gguf"), "absolute.gguf")
	link("../"+filepath.Base(outside)+"/secret.gguf", "relative.gguf")
	link(outside, "folder")
	link("blobs/abc", "cached.gguf")
	if err := syscall.Mkfifo(filepath.Join(store, "pipe.gguf"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := resolverFor(t, "https://unused.example", func(c *Config) { c.Roots = []string{"/nowhere", store} })
	for _, tc := range []struct {
		name, path, want string
		reason           Reason
	}{
		{"a file", store + "/x.gguf", "x.gguf", ""},
		{"a folder", store + "/hf", "model.safetensors", ""},
		{"a link within the store", store + "/cached.gguf", "cached.gguf", ""},
		{"an absolute link out of the store", store + "/absolute.gguf", "", Unsupported},
		{"a relative link out of the store", store + "/relative.gguf", "", Unsupported},
		{"a file behind a linked folder", store + "/folder/secret.gguf", "", Unsupported},
		{"a file outside", outside + "/secret.gguf", "", Unsupported},
		{"a named pipe", store + "/pipe.gguf", "", NotFound},
		{"nothing", store + "/none.gguf", "", NotFound},
		{"a store that is not mounted", "/nowhere/x.gguf", "", Unreachable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := r.Resolve(t.Context(), "file://"+tc.path)
			if got := ReasonOf(err); got != tc.reason {
				t.Fatalf("got %v (%q), want %q", err, got, tc.reason)
			}
			if err != nil {
				return
			}
			defer s.Close()
			if got := names(s.Weights); got != tc.want {
				t.Errorf("weights %q, want %q", got, tc.want)
			}
			headOf(t, s.Weights[0], 5)
		})
	}
	t.Run("no store at all", func(t *testing.T) {
		r := resolverFor(t, "https://unused.example", nil)
		if _, err := r.Resolve(t.Context(), "file:///models/x.gguf"); ReasonOf(err) != Unsupported {
			t.Errorf("got %v, want Unsupported", err)
		}
	})
	t.Run("another content is another version", func(t *testing.T) {
		first, err := r.Resolve(t.Context(), "file://"+store+"/x.gguf")
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		write(store, "x.gguf", "GGUFxx")
		second, err := r.Resolve(t.Context(), "file://"+store+"/x.gguf")
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		if first.ETag == second.ETag {
			t.Error("the fingerprint did not change")
		}
	})
}

// TestStoreTellsNobodyWhatItHolds is attack 13: a folder of a store in a pod's annotation listed the store in an Event.
func TestStoreTellsNobodyWhatItHolds(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"secret-a.gguf", "secret-b.gguf"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte("GGUF"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := resolverFor(t, "http://127.0.0.1:1", func(c *Config) { c.Roots = []string{root} })
	_, err := r.Resolve(t.Context(), "file://"+root)
	if ReasonOf(err) != Unsupported || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "2 GGUF models") {
		t.Errorf("error %v, want how many models there are and none of their names", err)
	}
}
