// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import "io"

// File is one file of a model, read by ranges: a local file, or one behind HTTP. The readers below this package read
// headers front to back in reads of 64 KiB to 4 MiB and nothing else.
type File interface {
	io.ReaderAt
	io.Closer
	// Size is the length in bytes, −1 if it is not known.
	Size() int64
}
