// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/term"

	"github.com/berth-dev/berth/pkg/cli/gpumap"
)

// defaultWidth is drawn for where nobody says how wide the output is.
const defaultWidth = 80

// TerminalStyle is the style for an output: in colour if it is a terminal that has them and nobody asked for none
// (noColor, or the variable NO_COLOR of no-color.org), and as wide as it is.
func TerminalStyle(out io.Writer, noColor bool) gpumap.Style {
	s := gpumap.Style{Width: defaultWidth}
	if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && columns > 0 {
		s.Width = columns
	}
	fd, ok := terminal(out)
	if !ok {
		return s
	}
	if width, _, err := term.GetSize(fd); err == nil && width > 0 {
		s.Width = width
	}
	s.Colour = !noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

func terminal(out io.Writer) (fd int, ok bool) {
	file, ok := out.(*os.File)
	if !ok {
		return 0, false
	}
	return int(file.Fd()), term.IsTerminal(int(file.Fd()))
}

// screen shows one frame after another: on a terminal in place, elsewhere one below the other.
type screen struct {
	out     io.Writer
	inPlace bool
	frames  int
}

// newScreen returns a screen; inPlace asks for frames in place where that can be done.
func newScreen(out io.Writer, inPlace bool) *screen {
	_, ok := terminal(out)
	return &screen{out: out, inPlace: inPlace && ok && os.Getenv("TERM") != "dumb"}
}

func (s *screen) show(frame []byte) error {
	var b bytes.Buffer
	if s.inPlace {
		if s.frames == 0 {
			b.WriteString("\x1b[?1049h") // a page of its own, so that what was there comes back
		}
		frame = cropped(frame, s.out)
		// Each line is cleared as it is written: clearing all of it first would flicker.
		b.WriteString("\x1b[H")
		b.Write(bytes.ReplaceAll(frame, []byte("\n"), []byte("\x1b[K\n")))
		b.WriteString("\x1b[J")
	} else {
		b.Write(frame)
	}
	s.frames++
	_, err := s.out.Write(b.Bytes())
	return err
}

// cropped returns as much of a frame as fits on the terminal.
func cropped(frame []byte, out io.Writer) []byte {
	fd, _ := terminal(out)
	_, height, err := term.GetSize(fd)
	lines := bytes.SplitAfter(bytes.TrimSuffix(frame, []byte("\n")), []byte("\n"))
	if err != nil || height < 2 || len(lines) < height {
		return frame
	}
	kept := bytes.Join(lines[:height-2], nil)
	return fmt.Appendf(kept, "... %d more lines: name nodes to see fewer\n", len(lines)-(height-2))
}

func (s *screen) close() {
	if s.inPlace && s.frames > 0 {
		_, _ = io.WriteString(s.out, "\x1b[?1049l")
	}
}
