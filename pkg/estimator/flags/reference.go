// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import "strings"

// UnknownMark stands in a word for a part that cannot be known. No argument can contain it.
const UnknownMark = '\x00'

// IsBerthVariable says whether a variable is one that the scheduler feeds through the downward API.
func IsBerthVariable(name string) bool {
	switch name {
	case "BERTH_TENSOR_PARALLEL_SIZE", "BERTH_GPU_MEMORY_UTILIZATION", "BERTH_TENSOR_SPLIT", "BERTH_MEM_FRACTION_STATIC",
		"BERTH_FREE_GPU_MEMORY_FRACTION":
		return true
	}
	return false
}

// BerthReference returns the variable of a word that is nothing but a reference to it.
func BerthReference(word string) (string, bool) {
	inner, ok := strings.CutPrefix(word, "$(")
	if !ok {
		return "", false
	}
	inner, ok = strings.CutSuffix(inner, ")")
	return inner, ok && IsBerthVariable(inner)
}
