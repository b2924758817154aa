// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package redact keeps what may be secret in addresses (users, passwords, queries, fragments) out of everything that
// is shown, logged or stored. A path is not secret: a token in one is shown.
package redact

import (
	"regexp"
	"strings"
)

// Why is why a model's URI with such a part is refused, and what to write instead.
const Why = "a model's URI is shown to others, so it holds neither a ?query nor a #fragment nor a user: leave them out. " +
	"Instead of a pre-signed URL, an admin can give the controller a token of the host, or berth.dev/gpu-memory can say " +
	"what the model needs"

var (
	// secretPattern finds what may be secret in a model's URI. The admission policies and the CRD hold the same expression.
	secretPattern = regexp.MustCompile(`[?#]|^([A-Za-z][A-Za-z0-9+.-]*://)?[^/]*@`)
	// userPattern is a user in front of a host. The second form is a password with a slash in it, which no parser takes.
	userPattern = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*://)?([^/]*@|[^/@]*:[^/@][^@]*@)`)

	// These find the same in the texts of others, which may quote addresses.
	quotedUser  = regexp.MustCompile(`//[^\s"/@]+@|[^\s"/@:]+:([^\s"/@][^\s"@]*)?@`)
	quotedQuery = regexp.MustCompile(`[?#](\\.|[^\s"\\])+`)
)

// HasSecret says whether a part of a model's URI may be secret.
func HasSecret(uri string) bool { return secretPattern.MatchString(uri) }

// URI returns the URI of a model, or the address of a file, as it may be shown.
func URI(uri string) string {
	if i := strings.IndexAny(uri, "?#"); i >= 0 {
		uri = uri[:i+1] + "…"
	}
	return userPattern.ReplaceAllString(uri, "${1}…@")
}

// Text returns a text of a library or of a server as it may be shown, as far as addresses can be told in it.
func Text(s string) string {
	s = quotedQuery.ReplaceAllStringFunc(s, func(q string) string { return q[:1] + "…" })
	return quotedUser.ReplaceAllStringFunc(s, func(user string) string {
		if strings.HasPrefix(user, "//") {
			return "//…@"
		}
		return "…@"
	})
}
