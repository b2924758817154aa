// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/gguf"
	"github.com/berth-dev/berth/pkg/estimator/hfconfig"
	"github.com/berth-dev/berth/pkg/estimator/safetensors"
	"github.com/berth-dev/berth/pkg/modelsource"
)

// parallelReads is how many files of one model are read at once: a large model has up to two hundred.
const parallelReads = 6

// readModel reads the headers of a model's files.
func readModel(s *modelsource.Snapshot) (*estimator.Model, error) {
	if s.Format == modelsource.FormatSafetensors {
		return readSafetensors(s)
	}
	return readGGUF(s)
}

func readGGUF(s *modelsource.Snapshot) (*estimator.Model, error) {
	headers, err := readEach(s.Weights, func(f modelsource.File) (*gguf.Header, error) { return gguf.ReadHeader(f, f.Size()) })
	if err != nil {
		return nil, err
	}
	m, err := headers[0].Model(headers[1:]...)
	if err != nil {
		return nil, err
	}
	if s.Projector != nil {
		header, err := gguf.ReadHeader(s.Projector, s.Projector.Size())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Projector.Name(), err)
		}
		tower, err := header.Model()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Projector.Name(), err)
		}
		if tower.Vision == nil {
			return nil, fmt.Errorf("%s is not a vision tower but a model of its own (%s)", s.Projector.Name(), tower.Architecture)
		}
		m.Vision = tower.Vision
		m.FileSize += tower.FileSize
	}
	for _, adapter := range s.Adapters {
		// The tensors of an adapter are loaded as they are, beside those that they adapt.
		m.OtherWeights += adapter.Size()
		m.FileSize += adapter.Size()
	}
	return m, nil
}

func readSafetensors(s *modelsource.Snapshot) (*estimator.Model, error) {
	config, err := s.ReadConfig("config.json")
	if err != nil {
		return nil, err
	}
	var quantization []byte
	for _, name := range []string{"hf_quant_config.json", "quantization_config.json", "quantize_config.json"} {
		if quantization, err = s.ReadConfig(name); err != nil {
			return nil, err
		}
		if quantization != nil {
			break
		}
	}
	m, err := hfconfig.Parse(config, quantization)
	if err != nil {
		return nil, err
	}
	headers, err := readEach(s.Weights, func(f modelsource.File) (*safetensors.Header, error) {
		return safetensors.ReadHeader(f, f.Size())
	})
	if err != nil {
		return nil, err
	}
	safetensors.Apply(m, headers)
	return m, nil
}

// readEach reads the headers of files, several at once, and returns them in the order of the files.
func readEach[T any](files []modelsource.File, read func(modelsource.File) (T, error)) ([]T, error) {
	headers := make([]T, len(files))
	var group errgroup.Group
	group.SetLimit(parallelReads)
	for i, f := range files {
		group.Go(func() (err error) {
			// A panic here would not be caught by the caller's recover: it is another goroutine's.
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("%s: reading it failed badly: %v", f.Name(), p)
				}
			}()
			if headers[i], err = read(f); err != nil {
				return fmt.Errorf("%s: %w", f.Name(), err)
			}
			return nil
		})
	}
	return headers, group.Wait()
}
