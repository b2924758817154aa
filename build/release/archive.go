// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// entry is a file of an archive.
type entry struct {
	name string // in the archive
	data []byte
	mode fs.FileMode
}

func archiveCommand(args []string, _ io.Writer) error {
	f := flags("archive")
	out := f.String("out", "", "archive to write; its name ends in .tar.gz or .zip")
	prefix := f.String("prefix", "", "folder of the archive that everything is in")
	if err := f.parse(args, "out"); err != nil {
		return err
	}
	var entries []entry
	for _, file := range f.Args() {
		e, err := read(file, path.Join(*prefix, filepath.Base(file)))
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	return writeArchive(*out, entries)
}

// read reads a file. Of its mode only counts whether it can be run, not what this machine's umask made of it.
func read(file, name string) (entry, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return entry{}, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return entry{}, err
	}
	mode := fs.FileMode(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	return entry{name: name, data: data, mode: mode}, nil
}

// writeArchive writes entries in their order, all of them dated by the commit and owned by root.
func writeArchive(file string, entries []entry) (err error) {
	when, err := date()
	if err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if closed := out.Close(); err == nil {
			err = closed
		}
	}()
	switch {
	case strings.HasSuffix(file, ".zip"):
		return writeZip(out, entries, when)
	case strings.HasSuffix(file, ".tar.gz"), strings.HasSuffix(file, ".tgz"):
		compressed := gzip.NewWriter(out)
		if err := writeTar(compressed, entries, when); err != nil {
			return err
		}
		return compressed.Close()
	}
	return fmt.Errorf("%s: the name of an archive ends in .tar.gz or .zip", file)
}

func writeTar(out io.Writer, entries []entry, when time.Time) error {
	w := tar.NewWriter(out)
	for _, e := range entries {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: int64(e.mode.Perm()), Size: int64(len(e.data)), ModTime: when}
		if e.mode.IsDir() {
			header.Typeflag, header.Name = tar.TypeDir, e.name+"/"
			if e.mode&fs.ModeSticky != 0 {
				header.Mode |= 0o1000
			}
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(e.data); err != nil {
			return err
		}
	}
	return w.Close()
}

func writeZip(out io.Writer, entries []entry, when time.Time) error {
	w := zip.NewWriter(out)
	for _, e := range entries {
		header := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: when}
		header.SetMode(e.mode)
		file, err := w.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := file.Write(e.data); err != nil {
			return err
		}
	}
	return w.Close()
}
