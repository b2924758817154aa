// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"fmt"
	"path"
	"regexp"
	"strconv"

	"github.com/berth-dev/berth/pkg/estimator"
)

// maxShards caps the files of one model.
const maxShards = 512

// shardName is how split files are named (llama.cpp, tools/gguf-split).
var shardName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// Read reads the model of a file, and of the other files when its name says that it is one of a split model; open
// opens a file by its name.
func Read(name string, open func(name string) (estimator.File, error)) (*estimator.Model, error) {
	names, err := Shards(name)
	if err != nil {
		return nil, err
	}
	headers := make([]*Header, 0, len(names))
	for _, n := range names {
		h, err := readFile(n, open)
		if err != nil {
			return nil, err
		}
		headers = append(headers, h)
	}
	if count := headers[0].values["split.count"].whole; count > 1 && int(min(count, maxShards+1)) != len(names) {
		return nil, fmt.Errorf("%s: the file is one of %d, and its name says %d: keep the names -00001-of-%05d.gguf …",
			path.Base(name), count, len(names), min(count, 99999))
	}
	m, err := headers[0].Model(headers[1:]...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path.Base(name), err)
	}
	return m, nil
}

// Shards returns the names of all files of the model that the named file belongs to, the first one first.
func Shards(name string) ([]string, error) {
	parts := shardName.FindStringSubmatch(name)
	if parts == nil {
		return []string{name}, nil
	}
	number, _ := strconv.Atoi(parts[2]) // five digits
	count, _ := strconv.Atoi(parts[3])
	if count < 1 || count > maxShards || number < 1 || number > count {
		return nil, fmt.Errorf("%s: file %d of %d is not between 1 and %d of at most %d", path.Base(name), number, count, count, maxShards)
	}
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d-of-%05d.gguf", parts[1], i+1, count)
	}
	return names, nil
}

func readFile(name string, open func(name string) (estimator.File, error)) (*Header, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := ReadHeader(f, f.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path.Base(name), err)
	}
	return h, nil
}
