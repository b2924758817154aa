// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package modelfile reads a model from wherever its files are: a folder on disk or one behind HTTP. It reads headers
// and configurations only.
package modelfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/gguf"
	"github.com/berth-dev/berth/pkg/estimator/hfconfig"
	"github.com/berth-dev/berth/pkg/estimator/safetensors"
)

// The files of a Hugging Face model that are read.
const (
	ConfigName      = "config.json"
	QuantConfigName = "hf_quant_config.json"
	IndexName       = "model.safetensors.index.json"
	SingleName      = "model.safetensors"
)

const (
	maxConfigBytes = 8 << 20
	maxIndexBytes  = 64 << 20
)

// Folder is a place with a model's files in it.
type Folder interface {
	// Open opens a file by its name; the error is fs.ErrNotExist (wrapped or not) for one that is not there. Any
	// deadline is the folder's own affair.
	Open(name string) (estimator.File, error)
}

// ReadGGUF reads a GGUF file of the folder, and its siblings when it is one of a split model.
func ReadGGUF(f Folder, name string) (*estimator.Model, error) { return gguf.Read(name, f.Open) }

// ReadSafetensors reads config.json, the quantization config beside it, and the headers of the safetensors files. A
// folder without weights (a configuration alone) gives a model whose weights are computed.
func ReadSafetensors(f Folder) (*estimator.Model, error) {
	m, err := ReadConfig(f, ConfigName, QuantConfigName)
	if err != nil {
		return nil, err
	}
	shards, err := shardNames(f)
	if err != nil || shards == nil {
		return m, err
	}
	headers := make([]*safetensors.Header, 0, len(shards))
	for _, name := range shards {
		h, err := readShard(f, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		headers = append(headers, h)
	}
	safetensors.Apply(m, headers)
	return m, nil
}

// ReadConfig reads a configuration and, where there is one, the quantization config of that name.
func ReadConfig(f Folder, config, quantConfig string) (*estimator.Model, error) {
	data, err := readAll(f, config, maxConfigBytes)
	if err != nil {
		return nil, err
	}
	quant, err := readAll(f, quantConfig, maxConfigBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return hfconfig.Parse(context.Background(), data, quant)
}

// shardNames returns the safetensors files of a folder, nil when it has none.
func shardNames(f Folder) ([]string, error) {
	index, err := readAll(f, IndexName, maxIndexBytes)
	if err == nil {
		return safetensors.Shards(index)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := f.Open(SingleName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []string{SingleName}, file.Close()
}

func readShard(f Folder, name string) (*safetensors.Header, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	return safetensors.ReadHeader(file, file.Size())
}

// readAll reads a whole file of at most limit bytes.
func readAll(f Folder, name string, limit int64) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	size := file.Size()
	if size > limit {
		return nil, fmt.Errorf("%s of %d bytes is larger than %d", name, size, limit)
	}
	if size < 0 {
		size = limit + 1
	}
	data, err := io.ReadAll(io.NewSectionReader(file, 0, size))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, nil
}

// IsGGUF says whether a file's name is that of a GGUF file.
func IsGGUF(name string) bool { return strings.EqualFold(path.Ext(name), ".gguf") }
