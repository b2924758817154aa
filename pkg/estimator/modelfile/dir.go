// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/gguf"
	"github.com/berth-dev/berth/pkg/estimator/hfconfig"
)

// Dir is a folder on disk.
type Dir string

// localFile is a file on disk with its size.
type localFile struct {
	*os.File
	size int64
}

func (f *localFile) Size() int64 { return f.size }

// Open opens a file of the folder. Only regular files: a pipe would hang, a device never ends.
func (d Dir) Open(name string) (estimator.File, error) {
	if !filepath.IsLocal(name) {
		return nil, fmt.Errorf("%q leads out of its folder", name)
	}
	full := filepath.Join(string(d), name)
	info, err := os.Stat(full)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", full)
	}
	f, err := os.Open(full)
	if err != nil {
		return nil, err
	}
	return &localFile{File: f, size: info.Size()}, nil
}

// ReadPath reads the model at a path: a GGUF file, a configuration ("config.json", also with a prefix), or a folder
// with either.
func ReadPath(name string) (*estimator.Model, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return readDir(name)
	}
	dir, base := Dir(filepath.Dir(name)), filepath.Base(name)
	if IsGGUF(base) || startsAsGGUF(dir, base) {
		return ReadGGUF(dir, base)
	}
	if base == ConfigName {
		return ReadSafetensors(dir)
	}
	if strings.EqualFold(filepath.Ext(base), ".json") {
		return ReadConfig(dir, base, strings.TrimSuffix(base, ConfigName)+QuantConfigName)
	}
	if strings.EqualFold(filepath.Ext(base), ".safetensors") {
		return ReadSafetensors(dir)
	}
	return nil, fmt.Errorf("%s is neither a GGUF file, a config.json nor a folder with one", name)
}

// startsAsGGUF says whether a file without the extension is a GGUF file (Ollama stores its blobs so).
func startsAsGGUF(d Dir, base string) bool {
	f, err := d.Open(base)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	var magic [4]byte
	n, _ := f.ReadAt(magic[:], 0)
	return n == 4 && string(magic[:]) == "GGUF"
}

// readDir reads a folder: safetensors where there is a config.json, else its one GGUF model.
func readDir(name string) (*estimator.Model, error) {
	dir := Dir(name)
	if _, err := os.Stat(filepath.Join(name, ConfigName)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return ReadSafetensors(dir)
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var models []string
	for _, e := range entries {
		if !IsGGUF(e.Name()) || strings.HasPrefix(strings.ToLower(e.Name()), "mmproj") {
			continue
		}
		shards, err := gguf.Shards(e.Name())
		if err == nil && !slices.Contains(models, shards[0]) {
			models = append(models, shards[0])
		}
	}
	switch len(models) {
	case 0:
		return nil, fmt.Errorf("%s has neither a config.json nor a GGUF file", name)
	case 1:
		return ReadGGUF(dir, models[0])
	}
	return nil, fmt.Errorf("%s has %d GGUF models: name one of %s", name, len(models), strings.Join(models, ", "))
}

// ReadConfigs reads a configuration and a quantization config by their paths.
func ReadConfigs(config, quantConfig string) (*estimator.Model, error) {
	data, err := readAll(Dir(filepath.Dir(config)), filepath.Base(config), maxConfigBytes)
	if err != nil {
		return nil, err
	}
	quant, err := readAll(Dir(filepath.Dir(quantConfig)), filepath.Base(quantConfig), maxConfigBytes)
	if err != nil {
		return nil, err
	}
	return hfconfig.Parse(context.Background(), data, quant)
}
