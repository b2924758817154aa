// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Limits on a header. They are some ten times what the largest published files have.
const (
	maxHeaderBytes  = 64 << 20
	maxKeys         = 1 << 16
	maxTensors      = 1 << 18
	maxKeyLength    = 1 << 10
	maxNameLength   = 1 << 8
	maxStringKept   = 1 << 12 // longer values (chat templates) are skipped
	maxStringLength = 16 << 20
	maxArrayKept    = 1 << 12 // longer arrays (vocabularies) are counted, not kept
	maxArrayLength  = 1 << 24
	// maxKept caps the bytes of all kept values of a header together: an element of one byte is kept in eight.
	maxKept      = 8 << 20
	maxDims      = 4
	maxAlignment = 1 << 16
)

// Header is what the header of one GGUF file says.
type Header struct {
	Version uint32
	// Tensors are in the order of the file.
	Tensors []Tensor
	// Bytes is the length of the header.
	Bytes int64
	// DataBytes is the length of the tensor data by the header: what the file has after it when it is complete.
	DataBytes int64

	values map[string]value
	kept   int // bytes of values
}

// Tensor is one entry of the tensor table.
type Tensor struct {
	Name     string
	Type     string
	Dims     []uint64
	Elements int64
	Bytes    int64
	offset   uint64
}

// value is one metadata value: a number, a string, a flag, or an array of numbers or flags.
type value struct {
	number float64
	whole  int64
	str    string
	array  []int64 // of arrays that are kept
	length int64   // of any array
	kind   valueKind
}

type valueKind uint8

const (
	kindNone valueKind = iota
	kindNumber
	kindString
	kindArray
)

// The types of metadata values (docs/gguf.md, gguf_metadata_value_type).
const (
	typeUint8 uint32 = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// ErrNotGGUF is returned for a file that does not begin as a GGUF file does.
var ErrNotGGUF = errors.New("not a GGUF file")

// ReadHeader reads the header from r, which has size bytes (−1 if that is not known). The tensor data need not be
// there.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	c := newCursor(r, size)
	magic, err := c.bytes(4)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotGGUF, err)
	}
	if string(magic) != "GGUF" {
		return nil, fmt.Errorf("%w: it begins with %q", ErrNotGGUF, magic)
	}
	h := &Header{values: map[string]value{}}
	if h.Version, err = c.uint32(); err != nil {
		return nil, err
	}
	switch {
	case h.Version == 1:
		c.shortLengths = true
	case h.Version&0xffff == 0:
		return nil, errors.New("a big-endian GGUF file; convert it to little-endian")
	case h.Version > 3:
		return nil, fmt.Errorf("GGUF version %d is not supported (1 to 3 are)", h.Version)
	}
	tensors, err := c.length("tensors", maxTensors)
	if err != nil {
		return nil, err
	}
	keys, err := c.length("metadata keys", maxKeys)
	if err != nil {
		return nil, err
	}
	for range keys {
		if err := h.readKey(c); err != nil {
			return nil, err
		}
	}
	types := make([]uint32, 0, min(tensors, 4096))
	for range tensors {
		t, typ, err := readTensor(c)
		if err != nil {
			return nil, err
		}
		h.Tensors = append(h.Tensors, t)
		types = append(types, typ)
	}
	h.Bytes = c.offset()
	if err := h.layOut(types); err != nil {
		return nil, err
	}
	return h, nil
}

// readKey reads one key and its value.
func (h *Header) readKey(c *cursor) error {
	key, err := c.string(maxKeyLength)
	if err != nil {
		return fmt.Errorf("metadata key: %w", err)
	}
	typ, err := c.uint32()
	if err != nil {
		return err
	}
	v, err := readValue(c, typ, 0)
	if err != nil {
		return fmt.Errorf("metadata %q: %w", key, err)
	}
	if h.kept += len(v.str) + 8*len(v.array); h.kept > maxKept {
		return fmt.Errorf("metadata %q: the values take more than %d bytes", key, maxKept)
	}
	if _, twice := h.values[key]; twice {
		return fmt.Errorf("metadata %q is there twice", key)
	}
	h.values[key] = v
	return nil
}

// readValue reads a value of a type. Arrays of arrays are refused: no known file has them, and they nest.
func readValue(c *cursor, typ uint32, depth int) (value, error) {
	switch typ {
	case typeString:
		s, err := c.stringUpTo(maxStringLength, maxStringKept)
		return value{kind: kindString, str: s}, err
	case typeArray:
		if depth > 0 {
			return value{}, errors.New("an array of arrays")
		}
		return readArray(c)
	}
	whole, number, err := c.scalar(typ)
	return value{kind: kindNumber, whole: whole, number: number}, err
}

func readArray(c *cursor) (value, error) {
	typ, err := c.uint32()
	if err != nil {
		return value{}, err
	}
	n, err := c.length("array elements", maxArrayLength)
	if err != nil {
		return value{}, err
	}
	v := value{kind: kindArray, length: int64(n)}
	switch width := scalarWidth(typ); {
	case typ == typeString:
		for range n {
			if err := c.skipString(); err != nil {
				return value{}, err
			}
		}
	case width == 0:
		return value{}, fmt.Errorf("array of type %d", typ)
	case n > maxArrayKept:
		return v, c.skip(int64(n) * int64(width))
	default:
		v.array = make([]int64, 0, n)
		for range n {
			whole, _, err := c.scalar(typ)
			if err != nil {
				return value{}, err
			}
			v.array = append(v.array, whole)
		}
	}
	return v, nil
}

// readTensor reads one entry of the tensor table.
func readTensor(c *cursor) (Tensor, uint32, error) {
	name, err := c.string(maxNameLength)
	if err != nil {
		return Tensor{}, 0, fmt.Errorf("tensor name: %w", err)
	}
	n, err := c.uint32()
	if err != nil {
		return Tensor{}, 0, err
	}
	if n == 0 || n > maxDims {
		return Tensor{}, 0, fmt.Errorf("tensor %q has %d dimensions, not 1 to %d", name, n, maxDims)
	}
	t := Tensor{Name: name, Dims: make([]uint64, n)}
	for i := range t.Dims {
		if t.Dims[i], err = c.wide(); err != nil {
			return Tensor{}, 0, err
		}
	}
	typ, err := c.uint32()
	if err != nil {
		return Tensor{}, 0, err
	}
	t.offset, err = c.uint64()
	return t, typ, err
}

// layOut computes the size of each tensor and checks that they lie one after the other: aligned, apart and within
// reason. The room up to the next tensor stands for the size of one whose type is not known.
func (h *Header) layOut(types []uint32) error {
	alignment := uint64(32)
	if v, ok := h.values["general.alignment"]; ok {
		if v.whole <= 0 || v.whole > maxAlignment || v.whole&(v.whole-1) != 0 {
			return fmt.Errorf("general.alignment %d is not a power of two up to %d", v.whole, maxAlignment)
		}
		alignment = uint64(v.whole)
	}
	order := make([]int, len(h.Tensors))
	unknown := make([]bool, len(h.Tensors))
	for i := range h.Tensors {
		t := &h.Tensors[i]
		order[i] = i
		bytes, known, err := t.size(types[i])
		if err != nil {
			return err
		}
		if t.offset%alignment != 0 {
			return fmt.Errorf("tensor %q is at offset %d, not a multiple of the alignment %d", t.Name, t.offset, alignment)
		}
		if t.offset > maxTensorBytes {
			return fmt.Errorf("tensor %q is at offset %d, beyond any file", t.Name, t.offset)
		}
		t.Bytes, unknown[i] = int64(bytes), !known
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := h.Tensors[a].offset, h.Tensors[b].offset
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return a - b
	})
	names := make(map[string]bool, len(h.Tensors))
	for pos, i := range order {
		t := &h.Tensors[i]
		if names[t.Name] {
			return fmt.Errorf("tensor %q is there twice", t.Name)
		}
		names[t.Name] = true
		end := t.offset + uint64(t.Bytes)
		if pos+1 < len(order) {
			next := h.Tensors[order[pos+1]].offset
			if unknown[i] {
				end = next
				t.Bytes = int64(next - t.offset)
			}
			if end > next {
				return fmt.Errorf("tensors %q and %q overlap", t.Name, h.Tensors[order[pos+1]].Name)
			}
		} else if unknown[i] {
			t.Bytes = t.Elements // nothing bounds the last one: a byte per element
			end = t.offset + uint64(t.Bytes)
		}
		if end > maxTensorBytes {
			return fmt.Errorf("the tensors take more than %d bytes", uint64(maxTensorBytes))
		}
		h.DataBytes = max(h.DataBytes, int64(end))
	}
	return nil
}
