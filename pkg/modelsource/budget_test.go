// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"strings"
	"testing"

	"golang.org/x/sync/semaphore"

	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

// readHead reads n bytes of a model's first file.
func readHead(s *Snapshot, n int) error {
	_, err := s.Weights[0].ReadAt(make([]byte, n), 0)
	return err
}

// TestOneBudgetForAllModels is attack 3: what models take together is bounded, a small one is read whatever large ones
// take, and the host of one that was sent away is not to blame.
func TestOneBudgetForAllModels(t *testing.T) {
	large := modeltest.File{Size: 1 << 30}
	h := newHub(t, map[string]modeltest.File{"/a.gguf": large, "/b.gguf": large, "/small.gguf": large})
	r := resolverFor(t, h.URL, func(c *Config) { c.OwnBytes, c.SharedBytes = 1<<20, 8<<20 })
	resolve := func(name string) *Snapshot {
		t.Helper()
		s, err := r.Resolve(t.Context(), h.URL+name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := resolve("/a.gguf"), resolve("/b.gguf")
	if err := readHead(a, 7<<20); err != nil {
		t.Fatalf("the first large model: %v", err)
	}
	err := readHead(b, 7<<20)
	if ReasonOf(err) != Unreachable || !strings.Contains(err.Error(), "other large models are being read") {
		t.Errorf("the second large model: error %v, want that it comes back later", err)
	}
	b.Close()
	small := resolve("/small.gguf") // from the same host
	if err := readHead(small, 512<<10); err != nil {
		t.Errorf("a small model beside it: %v", err)
	}
	small.Close()
	a.Close()
	b = resolve("/b.gguf")
	if err := readHead(b, 7<<20); err != nil {
		t.Errorf("the second large model after the first: %v", err)
	}
	b.Close()
	b.Close() // gives nothing back twice
	if !r.memory.shared.TryAcquire(8 << 20) {
		t.Error("not all of the budget came back")
	}
}

// TestFilesOfStoresAreCharged: a store may be written to by tenants.
func TestFilesOfStoresAreCharged(t *testing.T) {
	m := &memory{own: 4, shared: semaphore.NewWeighted(0)}
	b := m.newBudget(10)
	f := chargedFile{memoryFile{modeltest.File{Size: 100}}, b}
	if _, err := f.ReadAt(make([]byte, 4), 98); err == nil || ReasonOf(err) != "" {
		t.Errorf("the end of the file: error %v, want that of the file", err)
	}
	if _, err := f.ReadAt(make([]byte, 20), 0); ReasonOf(err) != BadFile {
		t.Errorf("more than may be read: error %v", err)
	}
}

// memoryFile is a file that is nowhere.
type memoryFile struct{ modeltest.File }

func (memoryFile) Name() string  { return "x" }
func (f memoryFile) Size() int64 { return f.File.Size }
