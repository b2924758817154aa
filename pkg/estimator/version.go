// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import "strconv"

// version is major × 1000 + minor of an engine; newest when it is not said or cannot be read.
type version int

const newest version = 1 << 30

// parseVersion reads "0.19.0", "v0.21.1rc1", "0.11".
func parseVersion(s string) version {
	if s != "" && (s[0] == 'v' || s[0] == 'V') {
		s = s[1:]
	}
	major, rest, ok := leadingNumber(s)
	if !ok || rest == "" || rest[0] != '.' {
		return newest
	}
	minor, _, ok := leadingNumber(rest[1:])
	if !ok {
		return newest
	}
	return version(major*1000 + minor)
}

func leadingNumber(s string) (int, string, bool) {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	v, err := strconv.Atoi(s[:n])
	if err != nil || v > 99999 {
		return 0, s, false
	}
	return v, s[n:], true
}

// atLeast says whether v is major.minor or newer.
func (v version) atLeast(major, minor int) bool { return v >= version(major*1000+minor) }
