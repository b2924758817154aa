// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package modelread reads the headers of a model's files, wherever they are.
package modelread

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/gguf"
	"github.com/berth-dev/berth/pkg/estimator/hfconfig"
	"github.com/berth-dev/berth/pkg/estimator/safetensors"
	"github.com/berth-dev/berth/pkg/modelsource"
)

// parallelReads is how many files of one model are read at once: a large model has up to two hundred.
const parallelReads = 6

// Progress is told how many of the files with weights have been read. Calls may come from several goroutines.
type Progress func(done, total int)

// Read reads the headers of a model's files, until ctx ends. progress may be nil.
func Read(ctx context.Context, s *modelsource.Snapshot, progress Progress) (*estimator.Model, error) {
	if progress == nil {
		progress = func(int, int) {}
	}
	if s.Format == modelsource.FormatSafetensors {
		return readSafetensors(ctx, s, progress)
	}
	return readGGUF(ctx, s, progress)
}

func readGGUF(ctx context.Context, s *modelsource.Snapshot, progress Progress) (*estimator.Model, error) {
	headers, err := readEach(s.Weights, progress, func(f modelsource.File) (*gguf.Header, error) { return gguf.ReadHeader(until(ctx, f), f.Size()) })
	if err != nil {
		return nil, err
	}
	m, err := headers[0].Model(headers[1:]...)
	if err != nil {
		return nil, err
	}
	if s.Projector != nil {
		header, err := gguf.ReadHeader(until(ctx, s.Projector), s.Projector.Size())
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

func readSafetensors(ctx context.Context, s *modelsource.Snapshot, progress Progress) (*estimator.Model, error) {
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
	m, err := hfconfig.Parse(ctx, config, quantization)
	if err != nil {
		return nil, err
	}
	headers, err := readEach(s.Weights, progress, func(f modelsource.File) (*safetensors.Header, error) {
		return safetensors.ReadHeader(until(ctx, f), f.Size())
	})
	if err != nil {
		return nil, err
	}
	safetensors.Apply(m, headers)
	return m, nil
}

// reader reads a file as long as its context lasts. The readers of headers ask for a few MiB at a time, and what they do
// between two reads is bounded by that.
type reader struct {
	ctx context.Context
	io.ReaderAt
}

func until(ctx context.Context, r io.ReaderAt) io.ReaderAt { return reader{ctx, r} }

// ReadAt implements io.ReaderAt.
func (r reader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.ReaderAt.ReadAt(p, off)
}

// readEach reads the headers of files, several at once, and returns them in the order of the files.
func readEach[T any](files []modelsource.File, progress Progress, read func(modelsource.File) (T, error)) ([]T, error) {
	headers := make([]T, len(files))
	var done atomic.Int32
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
			if cache, ok := f.(interface{ Forget() }); ok {
				cache.Forget()
			}
			progress(int(done.Add(1)), len(files))
			return nil
		})
	}
	return headers, group.Wait()
}
