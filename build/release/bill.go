// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

// bill is a bill of materials (CycloneDX, JSON). What is not read of it stays as it is.
type bill map[string]any

func readBill(file string) (bill, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var b bill
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if _, ok := b["components"].([]any); !ok {
		return nil, fmt.Errorf("%s lists no components", file)
	}
	return b, nil
}

// add adds components that the bill does not list yet.
func (b bill) add(components ...any) {
	all := b["components"].([]any)
	known := map[any]bool{}
	for _, c := range all {
		known[reference(c)] = true
	}
	for _, c := range components {
		if ref := reference(c); !known[ref] {
			known[ref] = true
			all = append(all, c)
		}
	}
	b["components"] = all
}

func reference(component any) any {
	c, _ := component.(map[string]any)
	return c["bom-ref"]
}

func (b bill) write(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(b)
}

// joinCommand adds to the bill of an image's first program what its other programs consist of.
func joinCommand(args []string, out io.Writer) error {
	f := flags("join")
	file := f.String("bill", "", "bill of materials of the first program")
	if err := f.parse(args, "bill"); err != nil {
		return err
	}
	b, err := readBill(*file)
	if err != nil {
		return err
	}
	for _, other := range f.Args() {
		o, err := readBill(other)
		if err != nil {
			return err
		}
		b.add(o["components"].([]any)...)
	}
	return b.write(out)
}

// vendoredLine is the first line of a file of others that hack/vendor-page.sh brought: "// htm 3.1.1, Apache-2.0: see LICENSE-htm",
// where the part behind the dash is the package's name at npm.
var vendoredLine = regexp.MustCompile(`^// \S+ (\S+), (\S+): see LICENSE-(\S+)\n`)

// vendoredCommand adds to a program's bill the packages of npm that are in it, with their licences: those of a folder of ES modules.
func vendoredCommand(args []string, out io.Writer) error {
	f := flags("vendored")
	file := f.String("bill", "", "bill of materials of the program")
	dir := f.String("dir", "", "folder of the modules and of the licences")
	if err := f.parse(args, "bill", "dir"); err != nil {
		return err
	}
	b, err := readBill(*file)
	if err != nil {
		return err
	}
	modules, err := filepath.Glob(filepath.Join(*dir, "*.js"))
	if err != nil {
		return err
	}
	if len(modules) == 0 {
		return fmt.Errorf("%s has no modules", *dir)
	}
	for _, module := range modules {
		text, err := os.ReadFile(module)
		if err != nil {
			return err
		}
		parts := vendoredLine.FindSubmatch(text)
		if parts == nil {
			return fmt.Errorf("%s does not begin with what it is, like %q", module, "// htm 3.1.1, Apache-2.0: see LICENSE-htm")
		}
		version, license, name := string(parts[1]), string(parts[2]), string(parts[3])
		terms, err := os.ReadFile(filepath.Join(*dir, "LICENSE-"+name))
		if err != nil {
			return err
		}
		purl := "pkg:npm/" + name + "@" + version
		b.add(map[string]any{
			"type": "library", "bom-ref": purl, "purl": purl, "name": name, "version": version,
			"licenses": []any{map[string]any{"license": map[string]any{"id": license, "text": map[string]any{"contentType": "text/plain", "content": string(terms)}}}},
		})
	}
	return b.write(out)
}
