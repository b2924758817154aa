// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/berth-dev/berth/internal/jsonsize"
)

const (
	// maxConfigBytes caps a configuration: the largest known (with thousands of module names in its quantization
	// config) have a few hundred KiB.
	maxConfigBytes = 8 << 20
	// maxDimension caps every number read: no model has a dimension near it, and products of a few of them must
	// stay far from overflow.
	maxDimension = 1 << 40
	// maxValues caps the values of a configuration, at every depth together: each takes some hundred bytes once it is
	// decoded, however few it has in the file. A checkpoint that names the type of each of 20,000 modules has 80,000.
	maxValues = 1 << 17
	// maxLayers caps the number of layers.
	maxLayers = 1024
)

// fields is one JSON object, its values not decoded yet. Configurations disagree on names and types, so each value
// is looked up under all its names and decoded as what is wanted; a value of another type counts as absent.
type fields map[string]json.RawMessage

// parse decodes one JSON object. Python writes Infinity and NaN, which JSON does not know; they become null.
func parse(data []byte) (fields, error) {
	if len(data) > maxConfigBytes {
		return nil, fmt.Errorf("configuration of %d bytes is larger than %d", len(data), maxConfigBytes)
	}
	if n := jsonsize.Values(data); n > maxValues {
		return nil, fmt.Errorf("%d values in a configuration are more than %d", n, maxValues)
	}
	var f fields
	err := json.Unmarshal(data, &f)
	if err != nil {
		if err2 := json.Unmarshal(withoutNonNumbers(data), &f); err2 != nil {
			return nil, fmt.Errorf("not a JSON object: %w", err)
		}
	}
	if f == nil {
		return nil, errors.New("not a JSON object: null")
	}
	return f, nil
}

// withoutNonNumbers replaces Infinity, -Infinity and NaN outside strings by null.
func withoutNonNumbers(data []byte) []byte {
	out := make([]byte, 0, len(data))
	inString := false
	for i := 0; i < len(data); i++ {
		c := data[i]
		if inString {
			out = append(out, c)
			if c == '\\' && i+1 < len(data) {
				i++
				out = append(out, data[i])
			} else if c == '"' {
				inString = false
			}
			continue
		}
		replaced := false
		for _, word := range []string{"-Infinity", "Infinity", "NaN"} {
			if bytes.HasPrefix(data[i:], []byte(word)) {
				out = append(out, "null"...)
				i += len(word) - 1
				replaced = true
				break
			}
		}
		if !replaced {
			inString = c == '"'
			out = append(out, c)
		}
	}
	return out
}

// has says whether one of the names is present with a value other than null.
func (f fields) has(names ...string) bool {
	for _, n := range names {
		if raw, ok := f[n]; ok && !bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
			return true
		}
	}
	return false
}

// int returns the first of the names that holds a whole number in [0, maxDimension], else zero.
func (f fields) int(names ...string) int64 {
	for _, n := range names {
		if v, ok := wholeNumber(f[n]); ok {
			return v
		}
	}
	return 0
}

// intOr is int with a default for when none of the names holds a number.
func (f fields) intOr(def int64, names ...string) int64 {
	for _, n := range names {
		if v, ok := wholeNumber(f[n]); ok {
			return v
		}
	}
	return def
}

func wholeNumber(raw json.RawMessage) (int64, bool) {
	v, err := strconv.ParseFloat(string(bytes.TrimSpace(raw)), 64)
	if err != nil || v < 0 || v > maxDimension || v != math.Trunc(v) {
		return 0, false
	}
	return int64(v), true
}

// number returns the value of name as a float, and whether it is one.
func (f fields) number(name string) (float64, bool) {
	v, err := strconv.ParseFloat(string(bytes.TrimSpace(f[name])), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, false
	}
	return v, true
}

// bool returns the first of the names that holds a boolean, else def.
func (f fields) bool(def bool, names ...string) bool {
	for _, n := range names {
		switch string(bytes.TrimSpace(f[n])) {
		case "true":
			return true
		case "false":
			return false
		}
	}
	return def
}

// str returns the first of the names that holds a string, else "".
func (f fields) str(names ...string) string {
	for _, n := range names {
		var s string
		if raw, ok := f[n]; ok && json.Unmarshal(raw, &s) == nil && s != "" {
			return s
		}
	}
	return ""
}

// strs returns the value of name as a list of strings, nil if it is none.
func (f fields) strs(name string) []string {
	var s []string
	if raw, ok := f[name]; !ok || json.Unmarshal(raw, &s) != nil {
		return nil
	}
	return s
}

// ints returns the value of name as a list of whole numbers, nil if it is none.
func (f fields) ints(name string) []int64 {
	var raws []json.RawMessage
	if raw, ok := f[name]; !ok || json.Unmarshal(raw, &raws) != nil || len(raws) > maxLayers {
		return nil
	}
	out := make([]int64, len(raws))
	for i, raw := range raws {
		v, ok := wholeNumber(raw)
		if !ok {
			return nil
		}
		out[i] = v
	}
	return out
}

// objects returns the value of name as a list of objects, nil if it is none.
func (f fields) objects(name string) []fields {
	var list []fields
	if raw, ok := f[name]; !ok || json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}

// sub returns the first of the names that holds an object, else nil.
func (f fields) sub(names ...string) fields {
	for _, n := range names {
		var s fields
		if raw, ok := f[n]; ok && json.Unmarshal(raw, &s) == nil && s != nil {
			return s
		}
	}
	return nil
}

// over returns the fields of f with those of base where f has none (or null).
func (f fields) over(base fields) fields {
	merged := make(fields, len(f)+len(base))
	for k, v := range base {
		merged[k] = v
	}
	for k := range f {
		if f.has(k) {
			merged[k] = f[k]
		}
	}
	return merged
}

// lists decodes each list of a configuration once: layers ask for them one by one.
type lists struct {
	numbers map[string][]int64
	words   map[string][]string
}

// ints returns a list of the language model's configuration, nil if it is none.
func (b *builder) ints(name string) []int64 { return b.intsOf(b.text, name) }

// intsOf returns a list of an object of the configuration; names of lists are unique among those.
func (b *builder) intsOf(f fields, name string) []int64 {
	list, ok := b.lists.numbers[name]
	if !ok {
		list = f.ints(name)
		b.lists.numbers[name] = list
	}
	return list
}

// mostOr returns the first of the names that holds a number or a list of them (one for each layer), of a list the
// largest; def if none does.
func (b *builder) mostOr(def int64, names ...string) int64 {
	for _, n := range names {
		if v, ok := wholeNumber(b.text[n]); ok {
			return v
		}
		if list := b.ints(n); len(list) > 0 {
			return slices.Max(list)
		}
	}
	return def
}

// strs returns a list of words of the language model's configuration, nil if it is none.
func (b *builder) strs(name string) []string {
	list, ok := b.lists.words[name]
	if !ok {
		list = b.text.strs(name)
		b.lists.words[name] = list
	}
	return list
}
