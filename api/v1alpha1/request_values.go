// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/berth-dev/berth/internal/redact"
	"github.com/berth-dev/berth/pkg/model"
)

// Bounds of the values. The upper ones are far above any hardware; they keep sums away from overflow.
const (
	// MinGPUMemory is the least total, in bytes (64Mi): less is a mistake of units.
	MinGPUMemory = 64 << 20
	// MaxGPUMemory is the largest total, in bytes (1Pi).
	MaxGPUMemory = 1 << 50
	// MaxGPUCount is the largest number of GPUs of one pod.
	MaxGPUCount = 16
	// MaxDuration is the longest idle-after and min-runtime.
	MaxDuration = 8760 * time.Hour
)

// The syntax of the values. The admission policies hold the same expressions (a test compares them).
var (
	quantityPattern = regexp.MustCompile(`^\+?[0-9]{1,18}(\.[0-9]{1,9})?([kMGTP]|[KMGTP]i|[eE][0-9]{1,2})?$`)
	countPattern    = regexp.MustCompile(`^[1-9][0-9]?$`)
	countsPattern   = regexp.MustCompile(`^[1-9][0-9]?(-[1-9][0-9]?|(,[1-9][0-9]?)+)?$`)
	totalsPattern   = regexp.MustCompile(`^[1-9][0-9]?=[^=,]+(,[1-9][0-9]?=[^=,]+)*$`)
	contextPattern  = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)
	parallelPattern = regexp.MustCompile(`^[1-9][0-9]{0,3}$`)
	durationPattern = regexp.MustCompile(`^([0-9]{1,5}(\.[0-9]{1,3})?h|[0-9]{1,7}(\.[0-9]{1,3})?[ms]|[0-9]{1,10}ms){1,4}$`)
	modelPattern    = regexp.MustCompile(`^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*([@/][!-~]+)?` +
		`|ollama://[A-Za-z0-9_][A-Za-z0-9._/:-]*` +
		`|https?://[A-Za-z0-9][A-Za-z0-9.:-]*/[!-~]+` +
		`|file:///[!-~]+` +
		`|profile://[a-z0-9]([a-z0-9.-]*[a-z0-9])?)$`)
)

// maxModelLength is the longest model URI.
const maxModelLength = 1024

var (
	kvCacheTypes = []string{
		"auto", "f32", "f16", "bf16", "q8_0", "q5_0", "q5_1", "q4_0", "q4_1", "iq4_nl", "fp8", "fp8_e4m3", "fp8_e5m2",
	}
)

// parseGPUMemory returns the total for key 0, or one total per count, in bytes.
func parseGPUMemory(s string) (map[int]int64, error) {
	if !strings.Contains(s, "=") {
		total, err := parseTotal(s)
		return map[int]int64{0: total}, err
	}
	if !totalsPattern.MatchString(s) {
		return nil, errors.New("write one total such as 30Gi, or COUNT=TOTAL for each count, such as 1=30Gi,2=34Gi")
	}
	totals := make(map[int]int64)
	for item := range strings.SplitSeq(s, ",") {
		count, total, _ := strings.Cut(item, "=")
		n, err := parseCount(count)
		if err != nil {
			return nil, err
		}
		if _, ok := totals[n]; ok {
			return nil, fmt.Errorf("two totals for %d GPUs", n)
		}
		if totals[n], err = parseTotal(total); err != nil {
			return nil, fmt.Errorf("%d GPUs: %w", n, err)
		}
	}
	return totals, nil
}

// parseTotal returns an amount of memory in bytes.
func parseTotal(s string) (int64, error) {
	if !quantityPattern.MatchString(s) {
		return 0, hinted("not an amount of memory", amountHint(s), "write a whole number of bytes such as 30Gi")
	}
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return 0, hinted("not an amount of memory", amountHint(s), "write a whole number of bytes such as 30Gi")
	}
	bytes := q.Value() // rounded up
	switch {
	case q.CmpInt64(MaxGPUMemory) > 0:
		return 0, errors.New("more than the largest amount, 1Pi")
	case q.CmpInt64(MinGPUMemory) < 0:
		return 0, hinted("less than the smallest amount, 64Mi", amountHint(s), "write an amount such as 30Gi")
	case q.CmpInt64(bytes) != 0:
		return 0, fmt.Errorf("not a whole number of bytes, did you mean %dMi?", (bytes+(1<<20)-1)>>20)
	}
	return bytes, nil
}

// hinted makes the error of a value: what is wrong, and the corrected form or else how to write it.
func hinted(wrong, hint, howTo string) error {
	if hint == "" {
		return fmt.Errorf("%s: %s", wrong, howTo)
	}
	return fmt.Errorf("%s, did you mean %s?", wrong, hint)
}

// looseAmount finds a number and the first letter of a unit in what should have been an amount of memory.
var looseAmount = regexp.MustCompile(`^ *([1-9][0-9]{0,5}(\.[0-9]{1,3})?) *(?i:([kmgt]?)i?b?) *$`)

// amountHint returns the amount in binary units that s was probably meant to be: what is not said to be M or T, or
// cannot be because it would be too little, is G; a bare number of four digits and more is M.
func amountHint(s string) string {
	m := looseAmount.FindStringSubmatch(s)
	if m == nil {
		return ""
	}
	unit := "Gi"
	switch {
	case strings.EqualFold(m[3], "t"):
		unit = "Ti"
	case strings.EqualFold(m[3], "m"), m[3] == "" && len(m[1])-len(m[2]) >= 4:
		unit = "Mi"
	}
	q, err := resource.ParseQuantity(m[1] + unit)
	if err == nil && q.CmpInt64(MinGPUMemory) < 0 {
		unit = "Gi"
	}
	return m[1] + unit
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || !countPattern.MatchString(s) || n > MaxGPUCount {
		return 0, fmt.Errorf("a number of GPUs is 1 to %d, not %s", MaxGPUCount, s)
	}
	return n, nil
}

// parseGPUCounts returns the counts, ascending.
func parseGPUCounts(s string) ([]int, error) {
	if !countsPattern.MatchString(s) {
		return nil, errors.New("write one count (2), a list (1,2,4) or a range (2-8)")
	}
	if first, last, ok := strings.Cut(s, "-"); ok {
		from, err := parseCount(first)
		if err != nil {
			return nil, err
		}
		to, err := parseCount(last)
		if err != nil {
			return nil, err
		}
		if from > to {
			return nil, fmt.Errorf("the range runs backwards, did you mean %d-%d?", to, from)
		}
		var counts []int
		for n := from; n <= to; n++ {
			counts = append(counts, n)
		}
		return counts, nil
	}
	var counts []int
	for item := range strings.SplitSeq(s, ",") {
		n, err := parseCount(item)
		if err != nil {
			return nil, err
		}
		if slices.Contains(counts, n) {
			return nil, fmt.Errorf("%d is in the list twice", n)
		}
		counts = append(counts, n)
	}
	slices.Sort(counts)
	return counts, nil
}

func formatCounts(counts []int) string {
	items := make([]string, len(counts))
	for i, n := range counts {
		items[i] = strconv.Itoa(n)
	}
	return strings.Join(items, ",")
}

func parseContextLength(s string) (int, error) {
	if !contextPattern.MatchString(s) {
		return 0, hinted("not a number of tokens", tokensHint(s), "write a number of tokens such as 8192")
	}
	return strconv.Atoi(s)
}

// tokensHint returns 8192 for 8k.
func tokensHint(s string) string {
	digits := strings.TrimRight(s, "kK")
	if n, err := strconv.Atoi(digits); err == nil && len(digits)+1 == len(s) && len(digits) <= 5 && n > 0 {
		return strconv.Itoa(n * 1024)
	}
	return ""
}

func parseParallel(s string) (int, error) {
	if !parallelPattern.MatchString(s) {
		return 0, errors.New("write the number of sequences served at once, 1 to 9999, such as 4")
	}
	return strconv.Atoi(s)
}

func parseRuntime(s string) (Runtime, error) {
	if slices.Contains(model.Runtimes, Runtime(s)) {
		return Runtime(s), nil
	}
	hint, names := "", make([]string, 0, len(model.Runtimes))
	for _, r := range model.Runtimes {
		names = append(names, string(r))
		if plain(string(r)) == plain(s) {
			hint = string(r)
		}
	}
	return "", hinted("no such runtime", hint, "write one of "+strings.Join(names, ", "))
}

func parseKVCacheType(s string) (string, error) {
	if slices.Contains(kvCacheTypes, s) {
		return s, nil
	}
	hint := ""
	if lower := strings.ToLower(s); slices.Contains(kvCacheTypes, lower) {
		hint = lower
	}
	return "", hinted("no such type", hint, "write one of "+strings.Join(kvCacheTypes, ", "))
}

// sharings are the values of gpu-sharing.
var sharings = []string{string(ShareAny), string(ShareOtherWorkloads), string(ShareNone)}

func parseSharing(s string) (GPUSharing, error) { return parseOneOf[GPUSharing](s, sharings...) }

func parseOnDeviceLost(s string) (FaultAction, error) {
	return parseOneOf[FaultAction](s, string(ActionIgnore), string(ActionEvict))
}

func parseOnOveruse(s string) (FaultAction, error) {
	return parseOneOf[FaultAction](s, string(ActionEvent), string(ActionEvict))
}

// parseOneOf reads one of a few words.
func parseOneOf[T ~string](s string, words ...string) (T, error) {
	if slices.Contains(words, s) {
		return T(s), nil
	}
	hint := ""
	for _, word := range words {
		if plain(word) == plain(s) {
			hint = word
		}
	}
	return "", hinted("no such value", hint, "write one of "+strings.Join(words, ", "))
}

// plain folds the ways to spell one name: llama.cpp, Llama-cpp, llamacpp.
func plain(s string) string {
	return strings.NewReplacer(".", "", "-", "", "_", "", " ", "").Replace(strings.ToLower(s))
}

func parseModel(s string) (string, error) {
	if redact.HasSecret(s) {
		return "", errors.New(redact.Why)
	}
	if len(s) <= maxModelLength && modelPattern.MatchString(s) {
		return s, nil
	}
	hint := ""
	for _, guess := range []string{"hf://" + s, "ollama://" + s} {
		if !strings.Contains(s, "://") && modelPattern.MatchString(guess) {
			hint = guess
			break
		}
	}
	return "", hinted("not the URI of a model", hint, "write hf://ORG/REPO, hf://ORG/REPO/FILE.gguf, ollama://NAME:TAG, "+
		"https://HOST/FILE.gguf, file:///PATH or profile://NAME")
}

func parseDuration(s string) (time.Duration, error) {
	if !durationPattern.MatchString(s) {
		return 0, hinted("not a duration", durationHint(s), "write a number and its unit, such as 30s, 10m or 1h30m")
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, err
	case d <= 0:
		return 0, errors.New("not a positive duration: leave it out, or write one such as 10m")
	case d > MaxDuration:
		return 0, errors.New("longer than a year (8760h)")
	}
	return d, nil
}

// durationHint returns 10m for 10 and 48h for 2d.
func durationHint(s string) string {
	if contextPattern.MatchString(s) {
		return s + "m"
	}
	days := strings.TrimSuffix(s, "d")
	if n, err := strconv.Atoi(days); err == nil && days != s && 0 < n && n <= 365 {
		return strconv.Itoa(n*24) + "h"
	}
	return ""
}
