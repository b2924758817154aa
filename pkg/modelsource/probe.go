// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/berth-dev/berth/internal/jsonsize"
)

// probe finds a model where nothing lists the files: by the names that follow from the one that is wanted.
func probe(wanted string, open func(entry) (File, error)) (*Snapshot, error) {
	var names []string
	var err error
	switch {
	case strings.HasSuffix(wanted, ".gguf"):
		names, err = splitNames(wanted)
	case wanted == "", path.Ext(wanted) == "", isSafetensors(wanted):
		names, err = probeSafetensors(wanted, open)
	default:
		return nil, errorf(Unsupported, "%q is neither a .gguf nor a .safetensors file", wanted)
	}
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(names))
	for i, name := range names {
		entries[i] = entry{name: name, size: -1}
	}
	c, err := choose(entries, wanted, func(name string) string { return name })
	if err != nil {
		return nil, err
	}
	return assemble(c, open)
}

func isSafetensors(name string) bool {
	return strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".safetensors.index.json") || path.Base(name) == "config.json"
}

// probeSafetensors returns the names of config.json and the shards that the index beside it lists.
func probeSafetensors(wanted string, open func(entry) (File, error)) ([]string, error) {
	folder := wanted
	if isSafetensors(wanted) {
		folder = folderOf(wanted)
	}
	names := []string{path.Join(folder, "config.json")}
	quant := path.Join(folder, "hf_quant_config.json")
	if _, err := open(entry{name: quant, size: -1}); err == nil {
		names = append(names, quant)
	} else if ReasonOf(err) != NotFound {
		return nil, err
	}
	if strings.HasSuffix(wanted, ".safetensors") && !shardPattern.MatchString(wanted) {
		return append(names, wanted), nil
	}
	index, err := open(entry{name: path.Join(folder, "model.safetensors.index.json"), size: -1})
	switch {
	case ReasonOf(err) == NotFound:
		return append(names, path.Join(folder, "model.safetensors")), nil
	case err != nil:
		return nil, err
	}
	shards, err := indexedShards(index)
	if err != nil {
		return nil, err
	}
	for _, shard := range shards {
		names = append(names, path.Join(folder, shard))
	}
	return names, nil
}

// maxIndex is the largest index that makes sense: 100,000 tensors with names of a hundred characters.
const maxIndex = 16 << 20

// indexedShards returns the files that a model.safetensors.index.json names, in order.
func indexedShards(f File) ([]string, error) {
	data, err := readAll(f, maxIndex)
	if err != nil {
		return nil, err
	}
	if n := jsonsize.Values(data); n > maxListedValues {
		return nil, errorf(BadFile, "%s has %d values where at most %d make sense", f.Name(), n, maxListedValues)
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, &Error{Reason: BadFile, Message: f.Name() + " is not an index of safetensors", Err: err}
	}
	seen := map[string]bool{}
	var shards []string
	for _, shard := range index.WeightMap {
		if seen[shard] {
			continue
		}
		if !isCleanPath(shard) || strings.Contains(shard, "/") || len(seen) == maxParts {
			return nil, errorf(BadFile, "%s names %q, which cannot be a shard", f.Name(), shard)
		}
		seen[shard] = true
		shards = append(shards, shard)
	}
	slices.Sort(shards)
	return shards, nil
}
