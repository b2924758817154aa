// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// loadedLibrary is the file of the library that this process loaded, to notice when it is replaced. The nil library,
// of tests that have none, is never replaced.
type loadedLibrary struct {
	path string
	info os.FileInfo
}

// loaded finds the file after the library was loaded.
func (l *loadedLibrary) loaded() {
	if l == nil || l.info != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	path := mappedLibrary(string(maps))
	if path == "" {
		return
	}
	// The device and inode in maps are not those of stat on an overlay file system, so the file is looked at here.
	if info, err := os.Stat(path); err == nil {
		l.path, l.info = path, info
	}
}

// replaced says whether the file is gone or is another one now.
func (l *loadedLibrary) replaced() bool {
	if l == nil || l.info == nil {
		return false
	}
	info, err := os.Stat(l.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return !os.SameFile(l.info, info)
}

// mappedLibrary returns the path of NVML's library in the content of /proc/<pid>/maps; empty if there is none.
func mappedLibrary(maps string) string {
	for line := range strings.Lines(maps) {
		// address perms offset dev inode path
		i := strings.IndexByte(line, '/')
		if i < 0 {
			continue
		}
		path := strings.TrimSuffix(line[i:], "\n")
		if strings.HasPrefix(filepath.Base(path), "libnvidia-ml.so") {
			return path
		}
	}
	return ""
}
