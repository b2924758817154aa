// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	// firstRead is enough for the metadata before the tokenizer; reads double from there to largestRead.
	firstRead   = 256 << 10
	largestRead = 4 << 20
)

// cursor reads a header front to back through a window over an io.ReaderAt.
type cursor struct {
	r        io.ReaderAt
	size     int64 // −1 if not known
	window   []byte
	start    int64 // of the window in the file
	pos      int   // in the window
	nextRead int
	// shortLengths: version 1 wrote lengths and dimensions in 32 bits.
	shortLengths bool
}

func newCursor(r io.ReaderAt, size int64) *cursor {
	return &cursor{r: r, size: size, nextRead: firstRead}
}

func (c *cursor) offset() int64 { return c.start + int64(c.pos) }

// fill makes n bytes available at the cursor; n is at most largestRead.
func (c *cursor) fill(n int) error {
	if len(c.window)-c.pos >= n {
		return nil
	}
	rest := len(c.window) - c.pos
	want := max(n, c.nextRead)
	if c.size >= 0 {
		left := c.size - c.offset()
		if left < int64(n) {
			return c.truncated()
		}
		want = int(min(int64(want), left))
	}
	if c.offset()+int64(n) > maxHeaderBytes {
		return fmt.Errorf("the header is longer than %d bytes", maxHeaderBytes)
	}
	window := make([]byte, want)
	copy(window, c.window[c.pos:])
	c.start = c.offset()
	c.pos = 0
	got, err := c.r.ReadAt(window[rest:], c.start+int64(rest))
	c.window = window[:rest+max(got, 0)]
	if len(c.window) < n {
		if err == nil || errors.Is(err, io.EOF) {
			return c.truncated()
		}
		return fmt.Errorf("read at %d: %w", c.start+int64(rest), err)
	}
	c.nextRead = min(2*c.nextRead, largestRead)
	return nil
}

func (c *cursor) truncated() error {
	return fmt.Errorf("the file ends within its header, at %d: %w", c.offset(), io.ErrUnexpectedEOF)
}

// bytes returns the next n bytes, valid until the next call.
func (c *cursor) bytes(n int) ([]byte, error) {
	if err := c.fill(n); err != nil {
		return nil, err
	}
	b := c.window[c.pos : c.pos+n]
	c.pos += n
	return b, nil
}

// skip passes over n bytes, without reading those beyond the window.
func (c *cursor) skip(n int64) error {
	if n < 0 || c.offset()+n > maxHeaderBytes {
		return fmt.Errorf("the header is longer than %d bytes", maxHeaderBytes)
	}
	if c.size >= 0 && n > c.size-c.offset() {
		return c.truncated()
	}
	if left := int64(len(c.window) - c.pos); n > left {
		c.start = c.offset() + n
		c.window, c.pos = nil, 0
		return nil
	}
	c.pos += int(n)
	return nil
}

func (c *cursor) uint32() (uint32, error) {
	b, err := c.bytes(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (c *cursor) uint64() (uint64, error) {
	b, err := c.bytes(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// wide reads a length or dimension in the width of the file's version.
func (c *cursor) wide() (uint64, error) {
	if c.shortLengths {
		n, err := c.uint32()
		return uint64(n), err
	}
	return c.uint64()
}

// length reads a count and refuses more than limit of them.
func (c *cursor) length(what string, limit uint64) (uint64, error) {
	n, err := c.wide()
	if err != nil {
		return 0, err
	}
	if n > limit {
		return 0, fmt.Errorf("%d %s are more than %d", n, what, limit)
	}
	return n, nil
}

// string reads a string of at most limit bytes.
func (c *cursor) string(limit uint64) (string, error) { return c.stringUpTo(limit, limit) }

// stringUpTo reads a string of at most limit bytes and returns it if it has at most keep, else "".
func (c *cursor) stringUpTo(limit, keep uint64) (string, error) {
	n, err := c.length("bytes of a string", limit)
	if err != nil {
		return "", err
	}
	if n > keep {
		return "", c.skip(int64(n))
	}
	b, err := c.bytes(int(n))
	return string(b), err
}

func (c *cursor) skipString() error {
	n, err := c.length("bytes of a string", maxStringLength)
	if err != nil {
		return err
	}
	return c.skip(int64(n))
}

// scalarWidth returns the bytes of a scalar type, 0 for others.
func scalarWidth(typ uint32) int {
	switch typ {
	case typeUint8, typeInt8, typeBool:
		return 1
	case typeUint16, typeInt16:
		return 2
	case typeUint32, typeInt32, typeFloat32:
		return 4
	case typeUint64, typeInt64, typeFloat64:
		return 8
	}
	return 0
}

// scalar reads a number or flag, as a whole number where it is one.
func (c *cursor) scalar(typ uint32) (int64, float64, error) {
	width := scalarWidth(typ)
	if width == 0 {
		return 0, 0, fmt.Errorf("value of type %d", typ)
	}
	b, err := c.bytes(width)
	if err != nil {
		return 0, 0, err
	}
	var n int64
	switch typ {
	case typeUint8, typeBool:
		n = int64(b[0])
	case typeInt8:
		n = int64(int8(b[0]))
	case typeUint16:
		n = int64(binary.LittleEndian.Uint16(b))
	case typeInt16:
		n = int64(int16(binary.LittleEndian.Uint16(b)))
	case typeUint32:
		n = int64(binary.LittleEndian.Uint32(b))
	case typeInt32:
		n = int64(int32(binary.LittleEndian.Uint32(b)))
	case typeUint64:
		n = int64(min(binary.LittleEndian.Uint64(b), math.MaxInt64))
	case typeInt64:
		n = int64(binary.LittleEndian.Uint64(b))
	case typeFloat32:
		f := float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
		return wholeOf(f), f, nil
	case typeFloat64:
		f := math.Float64frombits(binary.LittleEndian.Uint64(b))
		return wholeOf(f), f, nil
	}
	return n, float64(n), nil
}

// wholeOf returns f as a whole number, 0 where it is none of reasonable size.
func wholeOf(f float64) int64 {
	if f >= 0 && f <= 1<<40 {
		return int64(f)
	}
	return 0
}
