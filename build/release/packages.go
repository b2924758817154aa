// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// packagesCommand adds the Debian packages that an image is based on to the bill of materials of its program. The
// packages are layers, named PACKAGE_VERSION_ARCH.tar as Debian names them.
func packagesCommand(args []string, out io.Writer) error {
	f := flags("packages")
	bill := f.String("bill", "", "bill of materials of the program (CycloneDX, JSON)")
	distribution := f.String("distribution", "", "whose packages they are, such as debian")
	if err := f.parse(args, "bill", "distribution"); err != nil {
		return err
	}
	text, err := os.ReadFile(*bill)
	if err != nil {
		return err
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		return fmt.Errorf("%s: %w", *bill, err)
	}
	components, ok := document["components"].([]any)
	if !ok {
		return fmt.Errorf("%s lists no components", *bill)
	}
	for _, file := range f.Args() {
		parts := strings.Split(strings.TrimSuffix(filepath.Base(file), ".tar"), "_")
		if len(parts) != 3 {
			return fmt.Errorf("%s: not named PACKAGE_VERSION_ARCH.tar", file)
		}
		// A colon, which parts an epoch off, is %3a in the names of Debian's files, as it has to be in a purl.
		version := strings.ReplaceAll(parts[1], "+", "%2B")
		purl := fmt.Sprintf("pkg:deb/%s/%s@%s?arch=%s", *distribution, parts[0], version, parts[2])
		components = append(components, map[string]any{
			"type": "library", "bom-ref": purl, "purl": purl, "name": parts[0],
			"version": strings.ReplaceAll(parts[1], "%3a", ":"),
		})
	}
	document["components"] = components
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}
