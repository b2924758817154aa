// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package containerruntime

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/pelletier/go-toml/v2"
)

// maxFile is how much of a file is read, in bytes. Configurations are a hundredth of it.
const maxFile = 1 << 20

// errNotVisible is the error of a path that this process cannot look at, so that it may or may not exist.
var errNotVisible = errors.New("not visible to the agent")

// host is the node's file system, of which some folders are visible.
type host struct {
	root    string
	folders []string
	// newest is when the newest of the files that were read was changed.
	newest time.Time
}

// resolve returns where a path of the host is for this process, with links followed as the host would.
func (h *host) resolve(path string) (string, error) {
	resolved, err := securejoin.SecureJoin(h.root, path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	inside := "/" + strings.Trim(strings.TrimPrefix(resolved, filepath.Clean(h.root)), "/")
	if !slices.ContainsFunc(h.folders, func(f string) bool { return f == "/" || inside == f || strings.HasPrefix(inside, f+"/") }) {
		return "", fmt.Errorf("%s: %w", path, errNotVisible)
	}
	return resolved, nil
}

// read returns the beginning of a file of the host; an error for which errors.Is fs.ErrNotExist holds only if it is
// known that there is none.
func (h *host) read(path string) ([]byte, error) {
	f, err := h.open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// open opens a file of the host, with the errors of read.
func (h *host) open(path string) (*os.File, error) {
	resolved, err := h.resolve(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(resolved)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	if t := info.ModTime(); t.After(h.newest) {
		h.newest = t
	}
	return f, nil
}

// readTOML returns the values of a file of the host.
func (h *host) readTOML(path string) (tree, error) {
	text, err := h.read(path)
	if err != nil {
		return nil, err
	}
	var t tree
	if err := toml.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// list returns the paths of the files in a folder of the host whose names match a pattern, in order; none if there is
// no such folder.
func (h *host) list(folder, pattern string) ([]string, error) {
	resolved, err := h.resolve(folder)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(resolved)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if ok, err := filepath.Match(pattern, e.Name()); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", folder, pattern, err)
		} else if ok && !e.IsDir() {
			paths = append(paths, filepath.Join(folder, e.Name()))
		}
	}
	return paths, nil
}

// tree is a decoded TOML file.
type tree map[string]any

// at returns the value at a path, or nil.
func (t tree) at(path ...string) any {
	var v any = map[string]any(t)
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// text returns the string at a path, or "".
func (t tree) text(path ...string) string {
	s, _ := t.at(path...).(string)
	return s
}

// table returns the table at a path, or nil.
func (t tree) table(path ...string) tree {
	m, _ := t.at(path...).(map[string]any)
	return m
}

// texts returns the list of strings at a path, and whether there is one.
func (t tree) texts(path ...string) ([]string, bool) {
	values, ok := t.at(path...).([]any)
	texts := make([]string, 0, len(values))
	for _, v := range values {
		if s, isText := v.(string); isText {
			texts = append(texts, s)
		}
	}
	return texts, ok
}
