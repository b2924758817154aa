// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// ProfileScheme is the scheme of a source that names a ModelProfile instead of a model.
const ProfileScheme = "profile://"

// maxSlug leaves room for the dash and eight hex digits in a DNS label.
const maxSlug = validation.DNS1123LabelMaxLength - 9

// ModelProfileName returns the name of the profile of a model: a readable slug of its URI and, so that two sources
// never share a profile, eight hex digits of the URI's SHA-256. It is a DNS label. The source profile://NAME is the
// profile NAME itself, which an admin may also have called by a name with dots.
func ModelProfileName(source string) string {
	if name, ok := strings.CutPrefix(source, ProfileScheme); ok && len(validation.IsDNS1123Subdomain(name)) == 0 {
		return name
	}
	sum := sha256.Sum256([]byte(source))
	suffix := hex.EncodeToString(sum[:4])
	slug := slugOf(source)
	if slug == "" {
		return "model-" + suffix
	}
	return slug + "-" + suffix
}

// slugOf keeps the letters and digits of s in lower case and puts one dash for whatever is between them.
func slugOf(s string) string {
	var b strings.Builder
	dash := false
	for i := 0; i < len(s) && b.Len() < maxSlug; i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c < '0' || c > '9' && c < 'a' || c > 'z' {
			dash = b.Len() > 0
			continue
		}
		if dash {
			b.WriteByte('-')
			dash = false
		}
		b.WriteByte(c)
	}
	return strings.Trim(b.String()[:min(b.Len(), maxSlug)], "-")
}
