// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"testing"

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
