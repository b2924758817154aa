// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package safetensors reads the headers of safetensors files (github.com/huggingface/safetensors, "Format") and puts
// the sizes of their tensors in the place of those that were computed from a model's configuration.
//
// A header is 8 bytes of length and a JSON object; nothing else of a file is read. Headers are read as hostile:
// their length is capped, and tensors must lie one after the other inside the data.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
)

const (
	// maxHeaderBytes caps a header. The format allows 100 MB; published files have a few MB at most.
	maxHeaderBytes = 32 << 20
	maxTensors     = 1 << 18
	maxNameLength  = 1 << 10
	maxDims        = 8
	maxListBytes   = 512 // of a shape as it is written
	maxBytes       = 1 << 46
)

// elementBits are the bits of one element by dtype.
var elementBits = map[string]uint64{
	"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
	"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8, "BOOL": 8,
	"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}

// Tensor is one tensor of a file.
type Tensor struct {
	Name  string
	DType string
	Shape []uint64
	Bytes int64
}

// Header is what the header of one file says.
type Header struct {
	Tensors []Tensor
	// Bytes is the length of header and data together: the size of the file when it is complete.
	Bytes int64
}

// entry is one tensor as it is written.
type entry struct {
	DType   string  `json:"dtype"`
	Shape   numbers `json:"shape"`
	Offsets numbers `json:"data_offsets"`
}

// numbers is a short list: a shape, or two offsets. Each element of "[1,1,1…" takes four times as much once it is
// decoded, so a list is refused by its length before.
type numbers []uint64

// UnmarshalJSON implements json.Unmarshaler.
func (n *numbers) UnmarshalJSON(data []byte) error {
	if len(data) > maxListBytes {
		return fmt.Errorf("a list of %d bytes where at most %d make sense", len(data), maxListBytes)
	}
	return json.Unmarshal(data, (*[]uint64)(n))
}

// skipped takes a value of any kind and keeps nothing of it.
type skipped struct{}

// UnmarshalJSON implements json.Unmarshaler.
func (*skipped) UnmarshalJSON([]byte) error { return nil }

// ReadHeader reads the header from r, which has size bytes (−1 if that is not known). The data need not be there.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	var prefix [8]byte
	if n, err := r.ReadAt(prefix[:], 0); n < len(prefix) {
		return nil, fmt.Errorf("not a safetensors file: it ends within its first 8 bytes: %w", unexpected(err))
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length < 2 || length > maxHeaderBytes {
		return nil, fmt.Errorf("not a safetensors file: a header of %d bytes is not between 2 and %d", length, maxHeaderBytes)
	}
	if size >= 0 && int64(length) > size-8 {
		return nil, fmt.Errorf("the file of %d bytes ends within its header of %d: %w", size, length, io.ErrUnexpectedEOF)
	}
	data, err := readRange(r, 8, int(length))
	if err != nil {
		return nil, err
	}
	h := &Header{}
	end, err := h.decode(data)
	if err != nil {
		return nil, fmt.Errorf("safetensors header: %w", err)
	}
	h.Bytes = int64(8+length) + int64(end)
	return h, nil
}

// readRange reads n bytes at offset, growing as they come so that a lying length costs no memory.
func readRange(r io.ReaderAt, offset int64, n int) ([]byte, error) {
	const chunk = 1 << 20
	var buf bytes.Buffer
	for buf.Len() < n {
		part := make([]byte, min(chunk, n-buf.Len()))
		got, err := r.ReadAt(part, offset+int64(buf.Len()))
		buf.Write(part[:max(got, 0)])
		if got < len(part) {
			return nil, fmt.Errorf("read the header: %w", unexpected(err))
		}
	}
	return buf.Bytes(), nil
}

func unexpected(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// decode reads the JSON object tensor by tensor and returns where the data end.
func (h *Header) decode(data []byte) (uint64, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return 0, errors.New("not a JSON object")
	}
	type span struct{ begin, end uint64 }
	var spans []span
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return 0, err
		}
		name, ok := t.(string)
		if !ok || len(name) > maxNameLength {
			return 0, fmt.Errorf("a tensor name longer than %d bytes", maxNameLength)
		}
		if seen[name] {
			return 0, fmt.Errorf("tensor %q is there twice", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			var ignored skipped
			if err := d.Decode(&ignored); err != nil {
				return 0, err
			}
			continue
		}
		var e entry
		if err := d.Decode(&e); err != nil {
			return 0, fmt.Errorf("tensor %q: %w", name, err)
		}
		if len(h.Tensors) == maxTensors {
			return 0, fmt.Errorf("more than %d tensors", maxTensors)
		}
		size, err := e.bytes()
		if err != nil {
			return 0, fmt.Errorf("tensor %q: %w", name, err)
		}
		h.Tensors = append(h.Tensors, Tensor{Name: name, DType: e.DType, Shape: e.Shape, Bytes: int64(size)})
		spans = append(spans, span{e.Offsets[0], e.Offsets[1]})
	}
	if _, err := d.Token(); err != nil {
		return 0, err
	}
	slices.SortFunc(spans, func(a, b span) int {
		if a.begin != b.begin {
			if a.begin < b.begin {
				return -1
			}
			return 1
		}
		return 0
	})
	var end uint64
	for _, s := range spans {
		if s.begin < end {
			return 0, fmt.Errorf("tensors overlap at offset %d", s.begin)
		}
		end = s.end
	}
	return end, nil
}

// bytes returns the size of a tensor, which its dtype, shape and offsets must agree on.
func (e *entry) bytes() (uint64, error) {
	if len(e.Offsets) != 2 || e.Offsets[1] < e.Offsets[0] || e.Offsets[1] > maxBytes {
		return 0, errors.New("data_offsets are not two ascending offsets within a file")
	}
	size := e.Offsets[1] - e.Offsets[0]
	width, known := elementBits[e.DType]
	if !known {
		return size, nil // a type newer than this table: its offsets say how large it is
	}
	if len(e.Shape) > maxDims {
		return 0, fmt.Errorf("%d dimensions are more than %d", len(e.Shape), maxDims)
	}
	total := width
	for _, n := range e.Shape {
		hi, lo := bits.Mul64(total, n)
		if hi != 0 || lo > 8*maxBytes {
			return 0, fmt.Errorf("larger than %d bytes", uint64(maxBytes))
		}
		total = lo
	}
	if (total+7)/8 != size {
		return 0, fmt.Errorf("%d bytes of data for %d of %s %v", size, (total+7)/8, e.DType, e.Shape)
	}
	return size, nil
}
