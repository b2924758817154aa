// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package version says which build of Berth a binary is.
package version

import "runtime"

// Set by the linker, see the Makefile.
var (
	version = "v0.0.0-dev"
	commit  = "unknown"
)

// Tag returns the version of the binary, which is also the tag of its image.
func Tag() string { return version }

// String returns the version, commit and platform of the binary.
func String() string {
	return version + " (commit " + commit + ", " + runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH + ")"
}
