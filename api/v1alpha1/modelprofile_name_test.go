// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"
)

func TestModelProfileName(t *testing.T) {
	// The digits are of `printf %s SOURCE | sha256sum`.
	for _, tc := range []struct{ name, source, want string }{
		{"a repository", "hf://Qwen/Qwen2.5-7B-Instruct", "hf-qwen-qwen2-5-7b-instruct-58ba5dd6"},
		{"a tag", "ollama://llama3.1:70b", "ollama-llama3-1-70b-39fd5f38"},
		{"a long name is cut to a label", "https://models.example/" + strings.Repeat("long/", 40) + "x.gguf",
			"https-models-example-long-long-long-long-long-long-lon-bac6b04a"},
		{"no letters at all", "://", "model-5a5e2bae"},
		{"a profile is called by its own name", "profile://llama3.1-tuned", "llama3.1-tuned"},
		{"what cannot be a name is hashed", "profile://Not_A_Name", "profile-not-a-name-8b4b9a23"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := ModelProfileName(tc.source); got != tc.want {
				t.Errorf("ModelProfileName(%q) = %q, want %q", tc.source, got, tc.want)
			}
		})
	}
}

func FuzzModelProfileName(f *testing.F) {
	for _, s := range []string{"", "hf://a/b", "profile://x", "profile://", "-", "é", "a-" + strings.Repeat("-", 70) + "b", strings.Repeat("a", 54) + "!b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		name := ModelProfileName(source)
		if strings.HasPrefix(source, ProfileScheme) && name == source[len(ProfileScheme):] {
			if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
				t.Errorf("name %q: %v", name, errs)
			}
			return
		}
		if errs := validation.IsDNS1123Label(name); len(errs) > 0 {
			t.Errorf("ModelProfileName(%q) = %q: %v", source, name, errs)
		}
	})
}

func TestModelProfileNames(t *testing.T) {
	for _, tc := range []struct {
		name, source string
		want         []string
	}{
		{"a repository", "hf://Qwen/Qwen2.5-7B-Instruct", []string{"hf-qwen-qwen2-5-7b-instruct-58ba5dd6", "hf-qwen-qwen2-5-7b-instruct-58ba5dd6b2cf87146a62056a097e1c3a"}},
		{"no letters at all", "://", []string{"model-5a5e2bae", "model-5a5e2bae0f508e87a1d47efb5c8cbb77"}},
		{"a profile has its own name alone", "profile://llama3.1-tuned", []string{"llama3.1-tuned"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ModelProfileNames(tc.source)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, name := range ModelProfileNames("https://models.example/" + strings.Repeat("long/", 40) + "x.gguf") {
		if errs := validation.IsDNS1123Label(name); len(errs) > 0 {
			t.Errorf("%q is no label: %v", name, errs)
		}
	}
}
