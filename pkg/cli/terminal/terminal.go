// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package terminal says what an output can show.
package terminal

import (
	"io"
	"os"
	"strconv"

	"golang.org/x/term"

	"github.com/berth-dev/berth/pkg/cli/gpumap"
)

// defaultWidth is drawn for where nobody says how wide the output is.
const defaultWidth = 80

// Style is the style for an output: in colour if it is a terminal that has them and nobody asked for none (noColor, or
// the variable NO_COLOR of no-color.org), and as wide as it is.
func Style(out io.Writer, noColor bool) gpumap.Style {
	s := gpumap.Style{Width: defaultWidth}
	if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && columns > 0 {
		s.Width = columns
	}
	fd, ok := Of(out)
	if !ok {
		return s
	}
	if width, _, err := term.GetSize(fd); err == nil && width > 0 {
		s.Width = width
	}
	s.Colour = !noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// Of returns the file descriptor of an output, and whether it is a terminal.
func Of(out io.Writer) (fd int, ok bool) {
	file, ok := out.(*os.File)
	if !ok {
		return 0, false
	}
	return int(file.Fd()), term.IsTerminal(int(file.Fd()))
}
