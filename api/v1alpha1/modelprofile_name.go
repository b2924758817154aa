// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/berth-dev/berth/internal/redact"
)

// ProfileScheme is the scheme of a source that names a ModelProfile instead of a model.
const ProfileScheme = "profile://"

// maxSlug leaves room for the dash and eight hex digits in a DNS label.
const maxSlug = validation.DNS1123LabelMaxLength - 9

// longDigits are the hex digits of the second name: 128 bits, which nobody can make another URI agree with.
const longDigits = 32

// ModelProfileNames returns the names that the profile of a model can have, in the order in which they are looked up: that
// of ModelProfileName, and a longer one for when the profile of another source has that. Which of them is the model's is
// said by spec.source alone. The source profile://NAME has that one name.
func ModelProfileNames(source string) []string {
	first := ModelProfileName(source)
	if source == ProfileScheme+first {
		return []string{first}
	}
	sum := sha256.Sum256([]byte(source))
	suffix := hex.EncodeToString(sum[:])[:longDigits]
	slug := slugOf(source)
	slug = strings.Trim(slug[:min(len(slug), validation.DNS1123LabelMaxLength-1-longDigits)], "-")
	if slug == "" {
		slug = "model"
	}
	return []string{first, slug + "-" + suffix}
}

// IsOf says whether the profile is that of a model, whatever its name.
func (p *ModelProfile) IsOf(source string) bool {
	return p.Spec.Source == source || source == ProfileScheme+p.Name
}

// ModelProfileName returns the name that the profile of a model has by rule: a readable slug of its URI and eight hex
// digits of the URI's SHA-256. It is a DNS label. Eight digits can be made to collide: ModelProfileNames has the way
// around. The source profile://NAME is the profile NAME itself, which an admin may also have called by a name with dots.
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
	s = redact.URI(s)
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
