// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command hardware holds what the agent reads of real GPUs against what the machine says of them otherwise. It needs the
// NVIDIA driver and nothing else: nvidia-smi is the driver's, CUDA programs are child processes of its own that use the
// driver's libcuda, and the agent is linked in. It prints a report as JSON.
//
//	make test-hardware && scp bin/hardware gpu-machine: && ssh gpu-machine ./hardware >report.json
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/berth-dev/berth/pkg/agent/nvml"
)

// The first argument of the child processes of this program.
const (
	childCUDA  = "cuda-child"
	childAgent = "agent-child"
)

type options struct {
	nvmlLibrary, cudaLibrary, nvidiaSMI, report string
	// bytes is what a child process allocates, idle for how long the idle agent is measured.
	bytes uint64
	idle  time.Duration
	// patience is how long something may take that an agent has to see.
	patience time.Duration
}

func main() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) }

// Main runs the program, or the child process that its first argument says, and returns the exit code: 0 when nothing
// failed, also where there is no GPU to look at.
func Main(args []string, out, log io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) == 2 && args[0] == childCUDA {
		return childResult(log, runCUDA(args[1], os.Stdin, out))
	}
	if len(args) == 2 && args[0] == childAgent {
		return childResult(log, runAgent(ctx, args[1], os.Stdin, out))
	}
	o := options{}
	allocate := uint64(0)
	flags := flag.NewFlagSet("hardware", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.StringVar(&o.report, "report", "", "the `file` for the report; empty = standard output")
	flags.Uint64Var(&allocate, "mib", 512, "how much memory a process allocates on each GPU, in MiB; a second one takes half of it")
	flags.DurationVar(&o.idle, "idle", time.Minute, "for how long to measure what the agent costs")
	flags.DurationVar(&o.patience, "patience", 20*time.Second, "how long a change may take to be seen before it counts as not seen")
	flags.StringVar(&o.nvmlLibrary, "nvml-library", "libnvidia-ml.so.1", "the NVML library")
	flags.StringVar(&o.cudaLibrary, "cuda-library", "libcuda.so.1", "the library of the CUDA driver")
	flags.StringVar(&o.nvidiaSMI, "nvidia-smi", "nvidia-smi", "the program nvidia-smi")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 || allocate < 2 || o.patience <= 0 || o.idle <= 0 {
		fmt.Fprintln(log, "hardware: it takes no arguments but flags, at least 2 MiB, and times above zero")
		return 2
	}
	o.bytes = allocate * mib
	r, err := check(ctx, &o, log)
	if err == nil {
		err = r.write(o.report, out)
	}
	switch {
	case err != nil:
		fmt.Fprintln(log, "hardware:", err)
		return 1
	case r.Skipped != "":
		fmt.Fprintln(log, "SKIPPED:", r.Skipped)
	case r.failed():
		return 1
	}
	return 0
}

// check looks at all GPUs of this machine, one after the other.
func check(ctx context.Context, o *options, log io.Writer) (*report, error) {
	s := &session{o: o, reader: nvml.New(nvml.Options{LibraryPath: o.nvmlLibrary}), report: newReport(), log: log}
	defer s.reader.Close()
	reading, err := s.reader.Read(ctx)
	if errors.Is(err, nvml.ErrUnavailable) {
		s.report.Skipped = err.Error()
		return s.report, nil
	}
	if err != nil {
		return nil, err
	}
	s.report.Driver = reading.DriverVersion
	if len(reading.Devices) == 0 {
		s.report.Skipped = "the driver lists no GPUs"
		return s.report, nil
	}
	s.compareAll(ctx, "idle")
	for i := range reading.Devices {
		s.checkDevice(ctx, &reading.Devices[i])
	}
	s.checkIdle(ctx)
	return s.report, ctx.Err()
}

// childResult tells the parent why a child process ends, on its standard error.
func childResult(log io.Writer, err error) int {
	if err != nil {
		fmt.Fprintln(log, err)
		return 1
	}
	return 0
}
