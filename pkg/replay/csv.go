// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/replay/fgd"
)

// The columns, by the names that they have in the traces of Alibaba's cluster (openb). Others are ignored.
const (
	columnNode, columnPod = "sn", "name"
	columnCPU             = "cpu_milli"
	columnMemory          = "memory_mib"
	columnNodeGPUs        = "gpu"
	columnModel           = "model"
	columnPodGPUs         = "num_gpu"
	columnMilli           = "gpu_milli"
	columnModels          = "gpu_spec"
	columnCreated         = "creation_time"
	columnDeleted         = "deletion_time"
)

// most is the largest number that is read: no sum over a trace overflows.
const most = math.MaxInt64 / 1_000_000_000

// table reads a CSV file whose first line names the columns.
type table struct {
	file    string
	reader  *csv.Reader
	columns map[string]int
	row     []string
	err     error
}

func newTable(file string, r io.Reader, required ...string) (*table, error) {
	t := &table{file: file, reader: csv.NewReader(r), columns: map[string]int{}}
	t.reader.ReuseRecord = true
	header, err := t.reader.Read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s is empty: its first line has to name the columns %s", file, strings.Join(required, ", "))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for i, name := range header {
		t.columns[strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))] = i // Excel begins files with that
	}
	for _, name := range required {
		if _, ok := t.columns[name]; !ok {
			return nil, fmt.Errorf("%s: the first line names no column %q, but %s", file, name, strings.Join(header, ", "))
		}
	}
	return t, nil
}

func (t *table) has(column string) bool {
	_, ok := t.columns[column]
	return ok
}

// next reads the next row. It returns false at the end, and after an error, which is in t.err.
func (t *table) next() bool {
	if t.err != nil {
		return false
	}
	row, err := t.reader.Read()
	if err != nil {
		if !errors.Is(err, io.EOF) {
			t.err = fmt.Errorf("%s: %w", t.file, err)
		}
		return false
	}
	t.row = row
	return true
}

// fail notes what is wrong with the value of a column in this row, unless something was wrong before.
func (t *table) fail(column, format string, args ...any) {
	if t.err == nil {
		line, at := t.reader.FieldPos(t.columns[column])
		t.err = fmt.Errorf("%s:%d:%d: %s: %s", t.file, line, at, column, fmt.Sprintf(format, args...))
	}
}

// text returns a value; empty if there is no such column.
func (t *table) text(column string) string {
	i, ok := t.columns[column]
	if !ok {
		return ""
	}
	return strings.TrimSpace(t.row[i])
}

// number reads a whole number from 0 to a largest one. Some writers make 8000.0 of 8000.
func (t *table) number(column string, largest int64) int64 {
	text := t.text(column)
	n, err := strconv.ParseInt(strings.TrimSuffix(text, ".0"), 10, 64)
	if err != nil || n < 0 || n > largest {
		t.fail(column, "%q is no whole number from 0 to %d", text, largest)
	}
	return n
}

// unique notes an empty or a repeated name.
func (t *table) unique(column string, seen map[string]bool) string {
	name := t.text(column)
	switch {
	case name == "":
		t.fail(column, "it is empty")
	case seen[name]:
		t.fail(column, "%q was there before: names are unique", name)
	}
	seen[name] = true
	return name
}

// ReadNodes reads a list of nodes. Errors name the file, the line and the place in it.
func ReadNodes(file string, r io.Reader) ([]Node, error) {
	t, err := newTable(file, r, columnNode, columnCPU, columnMemory, columnNodeGPUs, columnModel)
	if err != nil {
		return nil, err
	}
	var nodes []Node
	seen := map[string]bool{}
	for t.next() {
		nodes = append(nodes, Node{
			Name: t.unique(columnNode, seen), CPU: t.number(columnCPU, most), Memory: t.number(columnMemory, most),
			GPUs: int(t.number(columnNodeGPUs, alloc.MaxDevices)), Model: t.text(columnModel),
		})
	}
	switch {
	case t.err != nil:
		return nil, t.err
	case Capacity(nodes) == 0:
		return nil, fmt.Errorf("%s: no node has a GPU: is it the list of the nodes?", file)
	}
	return nodes, nil
}

// ReadPods reads a list of pods, and says whether all of them have times. Errors name the file, the line and the place in it.
func ReadPods(file string, r io.Reader) (pods []Pod, hasTimes bool, err error) {
	t, err := newTable(file, r, columnPod, columnCPU, columnMemory, columnPodGPUs, columnMilli)
	if err != nil {
		return nil, false, err
	}
	hasTimes = t.has(columnCreated) && t.has(columnDeleted)
	seen := map[string]bool{}
	asked := int64(0)
	for t.next() {
		pod := Pod{
			Name: t.unique(columnPod, seen), Memory: t.number(columnMemory, most),
			Request: fgd.Request{CPU: t.number(columnCPU, most), GPUs: int(t.number(columnPodGPUs, alloc.MaxDevices)), Models: models(t.text(columnModels))},
		}
		if pod.GPUs > 0 {
			if pod.Milli = int(t.number(columnMilli, fgd.Whole)); pod.Milli == 0 {
				t.fail(columnMilli, "it is 0, and %s is %d: a pod with GPUs asks for 1 to %d of each", columnPodGPUs, pod.GPUs, fgd.Whole)
			}
		}
		if t.text(columnCreated) == "" || t.text(columnDeleted) == "" {
			hasTimes = false
		} else if pod.Created, pod.Deleted = t.number(columnCreated, most), t.number(columnDeleted, most); pod.Deleted < pod.Created {
			t.fail(columnDeleted, "it is before %s, %d", columnCreated, pod.Created)
		}
		asked += pod.Total()
		pods = append(pods, pod)
	}
	switch {
	case t.err != nil:
		return nil, false, t.err
	case asked == 0:
		return nil, false, fmt.Errorf("%s: no pod asks for a GPU: is it the list of the pods?", file)
	}
	return pods, hasTimes, nil
}

// models brings a list of models into one form.
func models(text string) string {
	list := slices.DeleteFunc(strings.Split(text, "|"), func(m string) bool { return strings.TrimSpace(m) == "" })
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), "|")
}
