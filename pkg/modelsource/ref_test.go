// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	web := func(s string) Ref {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return WebRef{URL: u}
	}
	for _, tc := range []struct {
		name, uri string
		want      Ref
	}{
		{"a repository", "hf://Qwen/Qwen2.5-7B-Instruct", HuggingFaceRef{Repo: "Qwen/Qwen2.5-7B-Instruct", Revision: "main"}},
		{"a repository with a slash too many", "hf://a/b/", HuggingFaceRef{Repo: "a/b", Revision: "main"}},
		{"a file", "hf://a/b/x-Q4_K_M.gguf", HuggingFaceRef{Repo: "a/b", Revision: "main", Path: "x-Q4_K_M.gguf"}},
		{"a file in a folder at a tag", "hf://a/b@v1.0/UD-Q4/x.gguf", HuggingFaceRef{Repo: "a/b", Revision: "v1.0", Path: "UD-Q4/x.gguf"}},
		{"an escaped branch", "hf://a/b@refs%2Fheads%2Fdev/x.gguf", HuggingFaceRef{Repo: "a/b", Revision: "refs/heads/dev", Path: "x.gguf"}},
		{"a pull request as the hub writes it", "hf://a/b@refs/pr/12/x.gguf", HuggingFaceRef{Repo: "a/b", Revision: "refs/pr/12", Path: "x.gguf"}},
		{"a pull request without a file", "hf://a/b@refs/pr/12", HuggingFaceRef{Repo: "a/b", Revision: "refs/pr/12"}},
		{"an @ in a file's name", "hf://a/b/x@y.gguf", HuggingFaceRef{Repo: "a/b", Revision: "main", Path: "x@y.gguf"}},
		{"an ollama model", "ollama://llama3.1:70b", OllamaRef{Name: "library/llama3.1", Tag: "70b"}},
		{"an ollama model without a tag", "ollama://llama3.1", OllamaRef{Name: "library/llama3.1", Tag: "latest"}},
		{"somebody's ollama model", "ollama://me/x:q8", OllamaRef{Name: "me/x", Tag: "q8"}},
		{"another registry", "ollama://registry.example:5000/me/x:q8", OllamaRef{Host: "registry.example:5000", Name: "me/x", Tag: "q8"}},
		{"a web file", "https://models.example/x.gguf", web("https://models.example/x.gguf")},
		{"a stored file", "file:///models/x.gguf", FileRef{Path: "/models/x.gguf"}},
		{"a stored folder", "file:///models/qwen/", FileRef{Path: "/models/qwen"}},
		{"a profile", "profile://llama3.1-tuned", ProfileRef{Name: "llama3.1-tuned"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse(tc.uri)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tc.uri, diff)
			}
		})
	}
}

func TestParseSaysTheCorrectedForm(t *testing.T) {
	for _, tc := range []struct{ name, uri, want string }{
		{"no scheme", "Qwen/Qwen2.5-7B-Instruct", "write hf://ORG/REPO"},
		{"an unknown scheme", "s3://bucket/x.gguf", "use hf, ollama, https, file or profile"},
		{"no organization", "hf://gpt2", "want hf://ORG/REPO"},
		{"a file that leaves the repository", "hf://a/b/../../etc/passwd", "not the path of a file"},
		{"a revision that leaves the repository", "hf://a/b@..%2F..%2Fx", "not a revision"},
		{"an empty revision", "hf://a/b@", "not a revision"},
		{"an empty tag", "ollama://llama3:", "not a name of a registry"},
		{"an ollama path that is too long", "ollama://a/b/c/d", "too many parts"},
		{"an ollama name that leaves the registry", "ollama://../x", "not a name of a registry"},
		{"a page of the hub", "https://huggingface.co/a/b", "write hf://a/b"},
		{"a file's page on the hub", "https://huggingface.co/a/b/blob/main/c/x.gguf", "write hf://a/b/c/x.gguf"},
		{"a file's page at a revision", "https://huggingface.co/a/b/blob/v1/x.gguf", "write hf://a/b@v1/x.gguf"},
		{"a URL without a host", "https:///x.gguf", "want https://HOST"},
		{"a relative file", "file://models/x.gguf", "want file:///PATH"},
		{"a file with ..", "file:///models/../etc/passwd", "want file:///PATH"},
		{"a profile with a slash", "profile://a/b", "want profile://NAME"},
		{"too long", "hf://a/b/" + strings.Repeat("x", 2000), "longer than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(tc.uri)
			if err == nil || !strings.Contains(err.Error(), tc.want) || ReasonOf(err) != Unsupported {
				t.Errorf("Parse(%q): got error %v (%s), want Unsupported with %q", tc.uri, err, ReasonOf(err), tc.want)
			}
		})
	}
}

func TestParseNeverRepeatsAPassword(t *testing.T) {
	_, err := Parse("https://me:hunter2@models.example/x.gguf")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got error %v, want one without the password", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"hf://a/b@refs/pr/1/x.gguf", "ollama://h:1/a/b:c", "https://h/x", "file:///a/b", "profile://x", "hf://a/b@%", "https://huggingface.co/a/b/tree/x/y",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		ref, err := Parse(uri)
		if err != nil {
			if ReasonOf(err) != Unsupported {
				t.Errorf("Parse(%q): %v has the reason %q", uri, err, ReasonOf(err))
			}
			return
		}
		switch ref := ref.(type) {
		case HuggingFaceRef:
			if strings.Contains("/"+ref.Repo+"/"+ref.Path+"/", "/../") || strings.Contains(ref.Revision, "..") {
				t.Errorf("Parse(%q) = %+v, which leaves its repository", uri, ref)
			}
		case FileRef:
			if strings.Contains(ref.Path+"/", "/../") || !strings.HasPrefix(ref.Path, "/") {
				t.Errorf("Parse(%q) = %+v, which is not a clean path", uri, ref)
			}
		case WebRef:
			if ref.URL.Hostname() == "" || ref.URL.User != nil {
				t.Errorf("Parse(%q) = %v", uri, ref.URL)
			}
		}
	})
}
