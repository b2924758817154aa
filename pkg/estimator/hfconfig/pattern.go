// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"context"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// What patterns may cost. The longest lists of published checkpoints have some hundred short ones. All caps are
// checked before the work that they bound.
const (
	maxPatterns      = 2048
	maxPatternLength = 512
	// maxPatternSize caps the instructions and ranges of characters of one expression, maxPatternsSize those of all:
	// a few characters ("(a{1000}){1000}", a class of all letters) stand for a million of them.
	maxPatternSize  = 1 << 12
	maxPatternsSize = 1 << 16
)

// matcher says whether a module name is meant by one entry of a quantization config.
type matcher func(name string) bool

// isPattern says whether an entry is a pattern and not a name.
func isPattern(entry string) bool {
	return strings.HasPrefix(entry, "re:") || strings.Contains(entry, "*")
}

// compiler makes matchers of the patterns of one model, and stops at the first cap that they exceed.
type compiler struct {
	ctx         context.Context
	count, size int
	err         error
}

// compile returns the matcher of a pattern, nil for an expression that is none and once a cap is exceeded.
func (c *compiler) compile(pattern string) matcher {
	if c.err == nil {
		c.err = c.ctx.Err()
	}
	if c.err != nil {
		return nil
	}
	if c.count++; c.count > maxPatterns {
		c.err = fmt.Errorf("more than %d patterns of modules in the quantization config", maxPatterns)
		return nil
	}
	if len(pattern) > maxPatternLength {
		c.err = fmt.Errorf("a pattern of %d bytes in the quantization config, more than %d", len(pattern), maxPatternLength)
		return nil
	}
	expr, isExpr := strings.CutPrefix(pattern, "re:")
	if !isExpr {
		return globMatcher(canonical(pattern))
	}
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil
	}
	size := sizeOf(parsed)
	if c.size += size; size > maxPatternSize || c.size > maxPatternsSize {
		c.err = fmt.Errorf("patterns of modules in the quantization config are larger than %d each or %d together", maxPatternSize, maxPatternsSize)
		return nil
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil
	}
	return func(name string) bool {
		// Patterns are written for names with their prefixes.
		return re.MatchString(name) || re.MatchString("model."+name) || re.MatchString("model.language_model."+name)
	}
}

// sizeOf returns about how many instructions and ranges of characters an expression compiles to; more than
// maxPatternSize is not told apart.
func sizeOf(re *syntax.Regexp) int {
	size := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		size = min(size+sizeOf(sub), maxPatternSize+1)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Min, re.Max, 1)
	}
	return min(size, maxPatternSize+1)
}

// globMatcher matches names against a pattern in which * stands for any characters; a pattern also matches what
// lies below the module that it names.
func globMatcher(pattern string) matcher {
	parts := strings.Split(pattern, "*")
	return func(name string) bool {
		for candidate := name; candidate != ""; candidate = parent(candidate) {
			if globParts(parts, candidate) {
				return true
			}
		}
		return false
	}
}

func globParts(parts []string, name string) bool {
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, p)
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
