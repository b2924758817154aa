// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// packagesCommand adds the Debian packages that an image is based on to the bill of materials of its program. The
// packages are layers, named PACKAGE_VERSION_ARCH.tar as Debian names them.
func packagesCommand(args []string, out io.Writer) error {
	f := flags("packages")
	file := f.String("bill", "", "bill of materials of the program")
	distribution := f.String("distribution", "", "whose packages they are, such as debian")
	if err := f.parse(args, "bill", "distribution"); err != nil {
		return err
	}
	b, err := readBill(*file)
	if err != nil {
		return err
	}
	for _, layer := range f.Args() {
		parts := strings.Split(strings.TrimSuffix(filepath.Base(layer), ".tar"), "_")
		if len(parts) != 3 {
			return fmt.Errorf("%s: not named PACKAGE_VERSION_ARCH.tar", layer)
		}
		// A colon, which parts an epoch off, is %3a in the names of Debian's files, as it has to be in a purl.
		version := strings.ReplaceAll(parts[1], "+", "%2B")
		purl := fmt.Sprintf("pkg:deb/%s/%s@%s?arch=%s", *distribution, parts[0], version, parts[2])
		b.add(map[string]any{
			"type": "library", "bom-ref": purl, "purl": purl, "name": parts[0],
			"version": strings.ReplaceAll(parts[1], "%3a", ":"),
		})
	}
	return b.write(out)
}
