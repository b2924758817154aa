// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"errors"
	"io"
)

// Format is how a model's weights are stored.
type Format string

const (
	FormatGGUF        Format = "gguf"
	FormatSafetensors Format = "safetensors"
)

// Snapshot is the files of one model at one version.
type Snapshot struct {
	// Revision names the version for people: a commit, a manifest digest, an ETag.
	Revision string
	// ETag is a fingerprint of the files: it changes when one of them does, and only then as far as the source lets
	// that be known.
	ETag   string
	Format Format
	// Weights are the parts of the model, in order; at least one.
	Weights []File
	// Projector is the vision tower that comes with a GGUF model; nil when there is none.
	Projector File
	// Adapters are LoRA adapters that are loaded with the model.
	Adapters []File
	// Configs are the small JSON files beside safetensors, by base name; "config.json" is always there.
	Configs map[string]File

	closers []io.Closer
	told    func(error) error
}

// Told returns what may be told of a failure to read the files: of a discreet Resolver, nothing but that no model is there
// to be read, unless everybody may see the files. Cause returns the rest, for the log.
func (s *Snapshot) Told(err error) error {
	if s.told == nil {
		return err
	}
	return s.told(err)
}

// Close lets go of the files, which cannot be read any more.
func (s *Snapshot) Close() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Size is the bytes of all the files that hold weights.
func (s *Snapshot) Size() int64 {
	var n int64
	for _, f := range s.Weights {
		n += f.Size()
	}
	for _, f := range s.Adapters {
		n += f.Size()
	}
	if s.Projector != nil {
		n += s.Projector.Size()
	}
	return n
}

// ReadConfig returns the content of a file of Configs, nil when there is none of that name.
func (s *Snapshot) ReadConfig(name string) ([]byte, error) {
	f, ok := s.Configs[name]
	if !ok {
		return nil, nil
	}
	return readAll(f, maxConfig)
}

// maxConfig is the largest config.json that makes sense: those of models quantized layer by layer reach 2 MiB.
const maxConfig = 8 << 20
