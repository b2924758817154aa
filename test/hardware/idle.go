// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/pkg/agent/cgroup"
	"github.com/berth-dev/berth/pkg/agent/nvml"
	"github.com/berth-dev/berth/pkg/agent/pci"
)

// runAgent is the child process that is an agent, all but its API server, with the agent's defaults. It says "ok" when it
// has reported for the first time, and ends with its input.
func runAgent(ctx context.Context, library string, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	client := &nowhere{reported: make(chan struct{})}
	a, err := agent.New(agent.Options{
		NodeName: "hardware", Reader: pci.NewReader(nvml.New(nvml.Options{LibraryPath: library}), "/sys"),
		Attributor: cgroup.NewAttributor("/proc"), Client: client,
	})
	if err != nil {
		return err
	}
	go func() {
		<-client.reported
		fmt.Fprintln(out, "ok")
		_, _ = io.Copy(io.Discard, in) // it ends when the parent says so, or ends itself
		stop()
	}()
	return a.Run(ctx)
}

// nowhere takes reports and keeps only the newest.
type nowhere struct {
	newest   atomic.Pointer[berthv1alpha1.GPUNode]
	writes   atomic.Int64
	reported chan struct{}
}

// Report returns what was written.
func (n *nowhere) Report(context.Context) (*berthv1alpha1.GPUNode, error) {
	gn := n.newest.Load()
	if gn == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: berthv1alpha1.GroupName, Resource: "gpunodes"}, "hardware")
	}
	return gn, nil
}

// Version is the number of the last write.
func (n *nowhere) Version(context.Context, string) (string, error) {
	return strconv.FormatInt(n.writes.Load(), 10), nil
}

// Apply keeps a report.
func (n *nowhere) Apply(_ context.Context, status *berthv1alpha1.GPUNodeStatus) (string, error) {
	n.newest.Store(&berthv1alpha1.GPUNode{Status: *status.DeepCopy()})
	writes := n.writes.Add(1)
	if writes == 1 {
		close(n.reported)
	}
	return strconv.FormatInt(writes, 10), nil
}

// RenewLease does nothing.
func (n *nowhere) RenewLease(context.Context, time.Time) error { return nil }

// settle is for how long an agent runs before it is measured.
const settle = time.Second

// checkIdle measures what an agent costs while nothing happens, and looks that it takes no GPU memory.
func (s *session) checkIdle(ctx context.Context) {
	f := finding{Name: "cost of the idle agent"}
	c, err := startChild(nil, childAgent, s.o.nvmlLibrary)
	if err != nil {
		s.finish(f, err.Error())
		return
	}
	defer c.stop()
	if err := pause(ctx, settle); err != nil {
		s.finish(f, err.Error())
		return
	}
	before, err := costOf(c.pid())
	if err == nil {
		err = pause(ctx, s.o.idle)
	}
	var after cost
	if err == nil {
		after, err = costOf(c.pid())
	}
	var reading *agent.Reading
	if err == nil {
		reading, err = s.reader.Read(ctx)
	}
	if err != nil {
		s.finish(f, err.Error())
		return
	}
	seconds := s.o.idle.Seconds()
	f.Measured = map[string]float64{
		"seconds": seconds, "cpuMillisPerSecond": float64((after.cpu - before.cpu).Milliseconds()) / seconds,
		"wakeupsPerSecond": float64(after.wakeups-before.wakeups) / seconds, "residentMiB": float64(after.resident) / mib,
	}
	var wrong []string
	for i := range reading.Devices {
		if p := processOf(&reading.Devices[i], c.pid()); p != nil {
			wrong = append(wrong, fmt.Sprintf("the agent holds %d MiB of %s", p.Memory/mib, reading.Devices[i].UUID))
		}
	}
	s.finish(f, wrong...)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// cost is what a process has taken until now.
type cost struct {
	cpu time.Duration
	// wakeups are the times that its threads were woken up from waiting.
	wakeups int64
	// resident is the memory that it has now, in bytes.
	resident int64
}

// costOf reads proc(5): stat counts CPU time in hundredths of a second on Linux, statm pages.
func costOf(pid int) (cost, error) {
	var c cost
	dir := fmt.Sprintf("/proc/%d", pid)
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return c, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system = 14 - 3, 15 - 3
	if len(fields) <= system {
		return c, fmt.Errorf("not the format of %s/stat", dir)
	}
	for _, i := range []int{user, system} {
		ticks, err := strconv.Atoi(string(fields[i]))
		if err != nil {
			return c, err
		}
		c.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	statm, err := os.ReadFile(filepath.Join(dir, "statm"))
	if err != nil {
		return c, err
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(statm), &size, &pages); err != nil {
		return c, err
	}
	c.resident = pages * int64(os.Getpagesize())
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*", "status"))
	if err != nil {
		return c, err
	}
	for _, file := range threads {
		status, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for line := range strings.Lines(string(status)) {
			if text, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
				if err != nil {
					return c, err
				}
				c.wakeups += n
			}
		}
	}
	return c, nil
}
