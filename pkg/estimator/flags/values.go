// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"math"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/model"
)

// Classify tells what a value is. ok is true for a literal; other values are recorded as they are.
func (s *Scanner) Classify(name, value string) bool {
	if strings.ContainsRune(value, UnknownMark) || strings.Contains(value, "$(") {
		s.MarkUnknown(name)
		return false
	}
	return true
}

// Whole returns a flag that sets a whole number, "8192", "8k" (1000) or "8K" (1024) as vLLM reads them.
func Whole(target func(*model.Settings) *int64) func(*Scanner, string, string) {
	return func(s *Scanner, name, value string) {
		if !s.Classify(name, value) {
			return
		}
		n, ok := ParseNumber(value)
		if !ok {
			s.MarkInvalid(name, value)
			return
		}
		*target(&s.Settings) = n
	}
}

// NumberOrAuto is Whole where "auto", "-1" and "0" stand for the engine's default.
func NumberOrAuto(target func(*model.Settings) *int64) func(*Scanner, string, string) {
	set := Whole(target)
	return func(s *Scanner, name, value string) {
		switch value {
		case "auto", "-1", "0":
			*target(&s.Settings) = 0
		default:
			set(s, name, value)
		}
	}
}

// Text returns a flag that sets a word.
func Text(target func(*model.Settings) *string) func(*Scanner, string, string) {
	return func(s *Scanner, name, value string) {
		if s.Classify(name, value) {
			*target(&s.Settings) = Shorten(value)
		}
	}
}

// Boolean returns a flag that sets or clears a switch; with a value ("--flag=false", LLAMA_ARG_…=0) the value
// decides.
func Boolean(target func(*model.Settings) *bool, on bool) func(*Scanner, string, string) {
	return func(s *Scanner, name, value string) {
		if !s.Classify(name, value) {
			return
		}
		set := on
		if value != "" && !Truthy(value) {
			set = !on
		}
		*target(&s.Settings) = set
	}
}

// SwitchTo returns a flag that sets a three-way switch; with a value the value decides, "auto" being the default.
func SwitchTo(target func(*model.Settings) *model.Switch, on bool) func(*Scanner, string, string) {
	return func(s *Scanner, name, value string) {
		if !s.Classify(name, value) {
			return
		}
		set := on
		switch {
		case value == "auto":
			*target(&s.Settings) = model.SwitchDefault
			return
		case value != "" && !Truthy(value):
			set = !on
		}
		*target(&s.Settings) = model.SwitchOff
		if set {
			*target(&s.Settings) = model.SwitchOn
		}
	}
}

// Truthy says whether a word switches something on.
func Truthy(value string) bool {
	switch strings.ToLower(value) {
	case "1", "true", "on", "yes", "enabled", "t", "y":
		return true
	}
	return false
}

// Reference returns a flag that may refer to one of Berth's variables.
func Reference(variable string, target func(*Result) *Number, parse func(string) (int64, bool)) func(*Scanner, string, string) {
	return func(s *Scanner, name, value string) {
		n := target(s.Result)
		if ref, ok := BerthReference(value); ok && ref == variable {
			*n = Number{Source: Berth}
			return
		}
		if !s.Classify(name, value) {
			*n = Number{Source: Unknown}
			return
		}
		v, ok := parse(value)
		if !ok {
			s.MarkInvalid(name, value)
			return
		}
		*n = Number{Source: Literal, Value: v}
	}
}

// ParseCount reads a number of GPUs.
func ParseCount(value string) (int64, bool) {
	n, err := strconv.ParseInt(value, 10, 32)
	return n, err == nil && n >= 1
}

// ParseFraction reads a fraction in (0, 1] as parts per million.
func ParseFraction(value string) (int64, bool) {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !(f > 0 && f <= 1) {
		return 0, false
	}
	return max(int64(math.Round(f*1e6)), 1), true
}

// ParseNumber reads a whole number with an optional suffix: k, m, g, t are powers of 1000, K, M, G, T of 1024, as
// vLLM reads them (vllm/engine/arg_utils.py, human_readable_int).
func ParseNumber(value string) (int64, bool) {
	if value == "" {
		return 0, false
	}
	unit := 1.0
	switch value[len(value)-1] {
	case 'k':
		unit = 1e3
	case 'm':
		unit = 1e6
	case 'g':
		unit = 1e9
	case 't':
		unit = 1e12
	case 'K':
		unit = 1 << 10
	case 'M':
		unit = 1 << 20
	case 'G':
		unit = 1 << 30
	case 'T':
		unit = 1 << 40
	}
	digits := value
	if unit != 1 {
		digits = value[:len(value)-1]
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil && unit == 1 {
		return n, n >= 0
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(f >= 0) || f*unit > 1<<60 {
		return 0, false
	}
	return int64(f * unit), true
}
