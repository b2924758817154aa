// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package child keeps programs running as child processes, as a Deployment of one replica would: what dies is
// started again, until the parent wants it to end.
package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// firstBackoff doubles with each quick death up to lastBackoff.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 2 * time.Second
	// settled is how long a process has to live for its death to count as the first one again.
	settled = 10 * time.Second
	// grace is how long a process has to end by itself after SIGTERM.
	grace = 3 * time.Second
)

// Process is a program that is kept running.
type Process struct {
	// Name is for messages.
	Name string
	// Path is the program's file.
	Path string
	// Args are the arguments; called before each start, so that a port can be another one.
	Args func() ([]string, error)
	// Output gets what the program prints to stdout and stderr.
	Output *os.File
	// Events gets a line for each start that follows a death; nil for none.
	Events io.Writer

	starts atomic.Int32
}

// Starts is how many times the program was started.
func (p *Process) Starts() int { return int(p.starts.Load()) }

// Run keeps the program running until ctx is cancelled, and returns when it is gone. A program that cannot be
// started at all is an error.
func (p *Process) Run(ctx context.Context) error {
	// The kernel sends Pdeathsig when the thread that started the child ends, not the process: keep the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	backoff := firstBackoff
	for ctx.Err() == nil {
		begin := time.Now()
		err := p.runOnce(ctx)
		if startErr := (*startError)(nil); errors.As(err, &startErr) {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(begin) >= settled {
			backoff = firstBackoff
		}
		if p.Events != nil {
			fmt.Fprintf(p.Events, "%s ended (%s), starting it again\n", p.Name, describe(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, lastBackoff)
	}
	return nil
}

// Once runs the program until it ends or ctx is cancelled. It is an error that it ends by itself.
func (p *Process) Once(ctx context.Context) error {
	runtime.LockOSThread() // as in Run
	defer runtime.UnlockOSThread()
	err := p.runOnce(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		return errors.New("ended by itself")
	}
	return err
}

// startError is that a program could not be started, which another try will not change.
type startError struct{ error }

func (e *startError) Unwrap() error { return e.error }

// runOnce runs the program until it ends or ctx is cancelled.
func (p *Process) runOnce(ctx context.Context) error {
	args, err := p.Args()
	if err != nil {
		return &startError{err}
	}
	cmd := exec.CommandContext(ctx, p.Path, args...)
	cmd.Stdout, cmd.Stderr = p.Output, p.Output
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// A group of its own, so that Ctrl-C reaches the parent alone, which then ends its children in order.
		Setpgid: true,
		// Even a parent that is killed leaves nothing behind.
		Pdeathsig: syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace // then the process is killed
	if err := cmd.Start(); err != nil {
		return &startError{fmt.Errorf("start %s: %w", p.Name, err)}
	}
	p.starts.Add(1)
	err = cmd.Wait()
	// Whatever it has started itself goes with it; there is mostly nobody left to be told.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return err
}

func describe(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
