// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package keys is read by the tests.
package keys

import "example.test/elsewhere"

const group = "example.test"

// Keys of a kind.
const (
	// AnnotationA is above.
	AnnotationA = group + "/a"
	AnnotationB = group + "/b" // AnnotationB is behind.

	Number = 3
)

// LabelAlone stands
// alone.
const LabelAlone = group + "/alone"

var _ elsewhere.Type
