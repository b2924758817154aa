// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// maxStoreDepth and maxStoreFiles bound the listing of a folder of a model store.
	maxStoreDepth = 3
	maxStoreFiles = 10_000
)

// resolveFile reads a model from a mounted store. Paths are resolved by os.Root, so that neither .. nor a symbolic
// link leads out of the store.
func (r *Resolver) resolveFile(ref FileRef, b *budget) (*Snapshot, error) {
	if len(r.roots) == 0 {
		return nil, errorf(Unsupported, "no model store is mounted into the controller; an admin can set --model-root")
	}
	folder, rel, found := r.storeOf(ref)
	if !found {
		return nil, errorf(Unsupported, "%s is not in a model store of the controller (%s)", ref.Path, strings.Join(r.roots, ", "))
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, &Error{Reason: Unreachable, Message: "the model store cannot be opened", Err: err}
	}
	return resolveStore(root, rel, b)
}

// storeOf returns the model store that a path is in, and the path within it.
func (r *Resolver) storeOf(ref FileRef) (folder, rel string, found bool) {
	for _, folder := range r.roots {
		if rel, err := filepath.Rel(folder, ref.Path); err == nil && filepath.IsLocal(rel) {
			return folder, rel, true
		}
	}
	return "", "", false
}

// resolveStore reads the model at rel, a file or a folder.
func resolveStore(root *os.Root, rel string, b *budget) (*Snapshot, error) {
	info, err := root.Stat(rel)
	if err != nil {
		root.Close()
		return nil, storeError(rel, err)
	}
	folder, wanted, depth := rel, "", maxStoreDepth
	if !info.IsDir() {
		folder, wanted, depth = path.Dir(rel), path.Base(rel), 1
	}
	entries, err := listStore(root, folder, depth)
	if err != nil {
		root.Close()
		return nil, err
	}
	// Nobody is told what else is in the store: the pod's author may have no other way to see that.
	c, err := choose(entries, wanted, nil)
	if err != nil {
		root.Close()
		return nil, err
	}
	var opened []io.Closer
	s, err := assemble(c, func(e entry) (File, error) {
		f, err := openStored(root, path.Join(folder, e.name), e.name)
		if err != nil {
			return nil, err
		}
		opened = append(opened, f)
		return chargedFile{f, b}, nil
	})
	root.Close() // files stay open without it
	if err != nil {
		for _, f := range opened {
			f.Close()
		}
		return nil, err
	}
	s.closers = opened
	s.Revision = info.ModTime().UTC().Format("2006-01-02T15:04:05Z")
	return s, nil
}

// listStore lists the files of a folder, and of those below it down to depth (1: of the folder alone). What cannot be read is left out: it may be another model's.
func listStore(root *os.Root, folder string, depth int) ([]entry, error) {
	var entries []entry
	err := fs.WalkDir(root.FS(), folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if name == folder {
				return storeError(folder, err)
			}
			return nil
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(name, folder), "/")
		if folder == "." {
			rel = name
		}
		if d.IsDir() {
			if name != folder && strings.Count(rel, "/") >= depth-1 {
				return fs.SkipDir
			}
			return nil
		}
		// Stat follows the links of a download cache (snapshots/COMMIT/FILE -> ../../blobs/HASH).
		info, err := root.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		if len(entries) == maxStoreFiles {
			return errorf(Unsupported, "the folder %q holds more than %d files: name the model's own folder or file", folder, maxStoreFiles)
		}
		entries = append(entries, entry{name: rel, size: info.Size(), id: fmt.Sprint(info.ModTime().UnixNano())})
		return nil
	})
	return entries, err
}

func openStored(root *os.Root, name, shown string) (*storedFile, error) {
	// Without O_NONBLOCK, opening a named pipe that took the file's place would wait for ever.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, storeError(name, err)
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errorf(BadFile, "%s is not a regular file", shown)
	}
	return &storedFile{File: f, name: shown, size: info.Size()}, nil
}

// storedFile is a File of a mounted store.
type storedFile struct {
	*os.File
	name string
	size int64
}

func (f *storedFile) Name() string { return f.name }
func (f *storedFile) Size() int64  { return f.size }

func storeError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errorf(NotFound, "the model store has no %q", name)
	case errors.Is(err, fs.ErrPermission):
		return errorf(Unauthorized, "the controller's user may not read %q in the model store", name)
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ETIMEDOUT):
		return &Error{Reason: Unreachable, Message: "the model store cannot be read", Err: err}
	}
	// os.Root's own: a path or a link that leads out of the store.
	return &Error{Reason: Unsupported, Message: fmt.Sprintf("%q cannot be read in the model store", name), Err: err}
}
