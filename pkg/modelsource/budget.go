// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// busyWait is after how long a model is tried again that found the process busy with large ones.
const busyWait = 10 * time.Second

// errBusy is the cause of failures that are the process's own, and nothing that a host did.
var errBusy = errors.New("the memory for models is in use")

// maxListedValues caps the values of a listing, a manifest or an index before it is decoded. An index of safetensors has
// one for each tensor, of which large models have a hundred thousand.
const maxListedValues = 1 << 18

// memory is what all models that are read at once may take together, in bytes as they are read. What is made of them
// takes a few times as much.
//
// Each model has a part of its own, so that small ones never wait for large ones; what it reads beyond that comes out of
// a part that all share. Nobody waits for that part while it holds some of it: whoever finds too little of it left lets
// go of all and comes back later.
type memory struct {
	own    int64
	shared *semaphore.Weighted
}

// budget is how many bytes may still be read for one model.
type budget struct {
	memory *memory

	mu    sync.Mutex
	left  int64
	own   int64 // left of the model's part
	taken int64 // of the shared part
}

// newBudget returns the budget of a model that n bytes may be read of.
func (m *memory) newBudget(n int64) *budget { return &budget{memory: m, left: n, own: m.own} }

// take charges n bytes that were read or are about to be.
func (b *budget) take(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left -= n; b.left < 0 {
		return errorf(BadFile, "the model's headers are larger than what may be read of one model")
	}
	own := min(n, b.own)
	if more := n - own; more > 0 {
		if !b.memory.shared.TryAcquire(more) {
			return &Error{Reason: Unreachable, RetryAfter: busyWait, Message: "other large models are being read; this one is tried again", Err: errBusy}
		}
		b.taken += more
	}
	b.own -= own
	return nil
}

// Close gives back what the model took of the shared part. Nothing of it may be held then.
func (b *budget) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.memory.shared.Release(b.taken)
	b.taken, b.own, b.left = 0, 0, 0
	return nil
}

// charged is a reader whose bytes are charged as they come: a server that never ends, or always breaks off, costs no more
// than one that does not.
type charged struct {
	io.Reader
	budget *budget
}

// Read implements io.Reader.
func (c charged) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if e := c.budget.take(int64(n)); e != nil {
		return 0, e
	}
	return n, err
}

// chargedFile is a file of a store whose bytes are charged. What is read twice is charged twice; headers are read once.
type chargedFile struct {
	File
	budget *budget
}

// ReadAt implements io.ReaderAt.
func (f chargedFile) ReadAt(p []byte, off int64) (int, error) {
	if left := f.Size() - off; left >= 0 && left < int64(len(p)) {
		if err := f.budget.take(left); err != nil {
			return 0, err
		}
	} else if err := f.budget.take(int64(len(p))); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}
