// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/berth-dev/berth/pkg/cli/terminal"
)

// screen shows one frame after another: on a terminal in place, elsewhere one below the other.
type screen struct {
	out     io.Writer
	inPlace bool
	frames  int
}

// newScreen returns a screen; inPlace asks for frames in place where that can be done.
func newScreen(out io.Writer, inPlace bool) *screen {
	_, ok := terminal.Of(out)
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
	fd, _ := terminal.Of(out)
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
