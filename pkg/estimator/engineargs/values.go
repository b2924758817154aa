// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"math"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
)

// classify tells what a value is. ok is true for a literal; other values are recorded as they are.
func (s *scanner) classify(name, value string) bool {
	if strings.ContainsRune(value, unknownMark) || strings.Contains(value, "$(") {
		s.unknown(name)
		return false
	}
	return true
}

// number returns a flag that sets a whole number, "8192", "8k" (1000) or "8K" (1024) as vLLM reads them.
func number(target func(*estimator.Settings) *int64) func(*scanner, string, string) {
	return func(s *scanner, name, value string) {
		if !s.classify(name, value) {
			return
		}
		n, ok := parseHuman(value)
		if !ok {
			s.invalid(name, value)
			return
		}
		*target(&s.r.Settings) = n
	}
}

// numberOrAuto is number where "auto", "-1" and "0" stand for the engine's default.
func numberOrAuto(target func(*estimator.Settings) *int64) func(*scanner, string, string) {
	set := number(target)
	return func(s *scanner, name, value string) {
		switch value {
		case "auto", "-1", "0":
			*target(&s.r.Settings) = 0
		default:
			set(s, name, value)
		}
	}
}

// text returns a flag that sets a word.
func text(target func(*estimator.Settings) *string) func(*scanner, string, string) {
	return func(s *scanner, name, value string) {
		if s.classify(name, value) {
			*target(&s.r.Settings) = shorten(value)
		}
	}
}

// boolean returns a flag that sets or clears a switch; with a value ("--flag=false", LLAMA_ARG_…=0) the value
// decides.
func boolean(target func(*estimator.Settings) *bool, on bool) func(*scanner, string, string) {
	return func(s *scanner, name, value string) {
		if !s.classify(name, value) {
			return
		}
		set := on
		if value != "" && !truthy(value) {
			set = !on
		}
		*target(&s.r.Settings) = set
	}
}

// switchTo returns a flag that sets a three-way switch; with a value the value decides, "auto" being the default.
func switchTo(target func(*estimator.Settings) *estimator.Switch, on bool) func(*scanner, string, string) {
	return func(s *scanner, name, value string) {
		if !s.classify(name, value) {
			return
		}
		set := on
		switch {
		case value == "auto":
			*target(&s.r.Settings) = estimator.SwitchDefault
			return
		case value != "" && !truthy(value):
			set = !on
		}
		*target(&s.r.Settings) = estimator.SwitchOff
		if set {
			*target(&s.r.Settings) = estimator.SwitchOn
		}
	}
}

func truthy(value string) bool {
	switch strings.ToLower(value) {
	case "1", "true", "on", "yes", "enabled", "t", "y":
		return true
	}
	return false
}

// reference returns a flag that may refer to one of Berth's variables.
func reference(variable string, target func(*Result) *Number, parse func(string) (int64, bool)) func(*scanner, string, string) {
	return func(s *scanner, name, value string) {
		n := target(s.r)
		if ref, ok := berthReference(value); ok && ref == variable {
			*n = Number{Source: Berth}
			return
		}
		if !s.classify(name, value) {
			*n = Number{Source: Unknown}
			return
		}
		v, ok := parse(value)
		if !ok {
			s.invalid(name, value)
			return
		}
		*n = Number{Source: Literal, Value: v}
	}
}

// parseCount reads a number of GPUs.
func parseCount(value string) (int64, bool) {
	n, err := strconv.ParseInt(value, 10, 32)
	return n, err == nil && n >= 1
}

// parseUtilization reads a fraction in (0, 1] as parts per million.
func parseUtilization(value string) (int64, bool) {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !(f > 0 && f <= 1) {
		return 0, false
	}
	return max(int64(math.Round(f*1e6)), 1), true
}

// ParseNumber reads a whole number as the engines' command lines have it: "8192", "32k" (1000), "32K" (1024).
func ParseNumber(value string) (int64, bool) { return parseHuman(value) }

// parseHuman reads a whole number with an optional suffix: k, m, g, t are powers of 1000, K, M, G, T of 1024, as
// vLLM reads them (vllm/engine/arg_utils.py, human_readable_int).
func parseHuman(value string) (int64, bool) {
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
