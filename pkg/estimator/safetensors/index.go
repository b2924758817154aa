// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxShards caps the files of one model.
const maxShards = 1024

// Shards returns the files that an index (model.safetensors.index.json) names, in order. A name with a path in it is
// refused: an index must not lead out of its folder.
func Shards(index []byte) ([]string, error) {
	var names []string
	seen := map[string]bool{}
	err := eachWeight(index, func(file string) error {
		if seen[file] {
			return nil
		}
		if file == "" || len(file) > 255 || strings.ContainsAny(file, "/\\") || strings.HasPrefix(file, ".") {
			return fmt.Errorf("%q is not the name of a file beside the index", file)
		}
		if len(names) == maxShards {
			return fmt.Errorf("more than %d files", maxShards)
		}
		seen[file] = true
		names = append(names, file)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("safetensors index: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("safetensors index: it names no file")
	}
	slices.Sort(names)
	return names, nil
}

// eachWeight calls do with the file of each entry of weight_map, decoding one at a time.
func eachWeight(index []byte, do func(file string) error) error {
	d := json.NewDecoder(bytes.NewReader(index))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		if key != "weight_map" {
			var ignored json.RawMessage
			if err := d.Decode(&ignored); err != nil {
				return err
			}
			continue
		}
		if t, err := d.Token(); err != nil || t != json.Delim('{') {
			return errors.New("weight_map is not an object")
		}
		for d.More() {
			if _, err := d.Token(); err != nil {
				return err
			}
			var file string
			if err := d.Decode(&file); err != nil {
				return err
			}
			if err := do(file); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil {
			return err
		}
	}
	return nil
}
