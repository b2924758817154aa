// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listed are the components of a bill, each with its licence, and the texts of these.
func listed(t *testing.T, text []byte) (components []string, terms map[string]string) {
	t.Helper()
	var b struct {
		Components []struct {
			Purl     string
			Licenses []struct {
				License struct {
					ID   string
					Text struct{ Content string }
				}
			}
		}
	}
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	terms = map[string]string{}
	for _, c := range b.Components {
		line := c.Purl
		for _, l := range c.Licenses {
			line += " " + l.License.ID
			terms[c.Purl] = l.License.Text.Content
		}
		components = append(components, line)
	}
	return components, terms
}

func writeBill(t *testing.T, purls ...string) string {
	t.Helper()
	b := bill{"bomFormat": "CycloneDX", "components": []any{}}
	for _, purl := range purls {
		b.add(map[string]any{"bom-ref": purl, "purl": purl})
	}
	var text bytes.Buffer
	if err := b.write(&text); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bill.json")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestThePageIsInTheBill: what the page has of others is listed, each once, with the licence that lies beside it.
func TestThePageIsInTheBill(t *testing.T) {
	const dir = "../../pkg/ui/page/assets/vendor"
	var out bytes.Buffer
	if err := run([]string{"vendored", "--bill", writeBill(t, "pkg:golang/a@v1"), "--dir", dir}, &out); err != nil {
		t.Fatal(err)
	}
	components, terms := listed(t, out.Bytes())
	got := map[string]bool{}
	for _, c := range components {
		name, _, _ := strings.Cut(c, "@")
		got[name+c[strings.LastIndex(c, " ")+1:]] = true
	}
	if len(components) != 3 || !got["pkg:npm/preactMIT"] || !got["pkg:npm/htmApache-2.0"] {
		t.Errorf("the bill lists %q", components)
	}
	licences, err := filepath.Glob(dir + "/LICENSE-*")
	if err != nil || len(licences) != len(terms) {
		t.Fatalf("%d licences are there, %d in the bill: %v", len(licences), len(terms), err)
	}
	for _, file := range licences {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for purl, content := range terms {
			found = found || content == string(text) && strings.HasPrefix(purl, "pkg:npm/"+strings.TrimPrefix(filepath.Base(file), "LICENSE-")+"@")
		}
		if !found {
			t.Errorf("the text of %s is not in the bill", file)
		}
	}
}

func TestBillsAreJoined(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{"join", "--bill", writeBill(t, "a", "b"), writeBill(t, "b", "c"), writeBill(t, "c", "d")}, &out); err != nil {
		t.Fatal(err)
	}
	got, _ := listed(t, out.Bytes())
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhatSaysNotWhatItIsIsNotListed(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no line":    {"a.js": "export const a = 1\n"},
		"no licence": {"a.js": "// A 1.0.0, MIT: see LICENSE-a\n"},
		"no modules": {},
	} {
		dir := t.TempDir()
		for file, text := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := run([]string{"vendored", "--bill", writeBill(t), "--dir", dir}, &bytes.Buffer{}); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
