// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// runCUDA is the child process that holds memory of a GPU. It does what each line of its input says, and answers with a
// line: "ok", or what went wrong. It ends with its input.
//
//	alloc BYTES      hold more memory
//	busy, idle       compute, or stop it
func runCUDA(library string, in io.Reader, out io.Writer) error {
	runtime.LockOSThread() // the context is the thread's
	c, err := openCUDA(library)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ok")
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			lines <- s.Text()
		}
	}()
	busy := false
	for {
		if busy {
			select {
			case line, more := <-lines:
				if !more {
					return nil
				}
				busy = c.obey(line, out)
			default:
				if err := c.spin(); err != nil {
					return err
				}
			}
			continue
		}
		line, more := <-lines
		if !more {
			return nil
		}
		busy = c.obey(line, out)
	}
}

// obey does what a line says, answers, and returns whether to compute from now on.
func (c *cuda) obey(line string, out io.Writer) (busy bool) {
	var err error
	var n uint64
	switch {
	case line == "busy":
		err = c.spin()
		busy = err == nil
	case line == "idle":
	default:
		if _, err = fmt.Sscanf(line, "alloc %d", &n); err == nil {
			err = c.alloc(n)
		}
	}
	if err != nil {
		fmt.Fprintln(out, err)
		return false
	}
	fmt.Fprintln(out, "ok")
	return busy
}

// child is such a process, seen by its parent.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	// log is what it said when it ended.
	log bytes.Buffer
}

// startChild runs this program again as a child process, with more in its environment, and waits for its first answer.
func startChild(env []string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, args...)}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stderr = &c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := c.answer(); err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// holdMemory starts a process on one GPU, which it sees as its only one.
func holdMemory(o *options, uuid string) (*child, error) {
	return startChild([]string{"CUDA_VISIBLE_DEVICES=" + uuid}, childCUDA, o.cudaLibrary)
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// ask has the child do something.
func (c *child) ask(format string, args ...any) error {
	if _, err := fmt.Fprintf(c.in, format+"\n", args...); err != nil {
		return err
	}
	return c.answer()
}

func (c *child) answer() error {
	line, err := c.out.ReadString('\n')
	if err != nil {
		_ = c.cmd.Wait() // what it said says more than how it ended
		return fmt.Errorf("%s", strings.TrimSpace(c.log.String()))
	}
	if line = strings.TrimSpace(line); line != "ok" {
		return fmt.Errorf("%s", line)
	}
	return nil
}

// kill ends the child at once, as the kernel ends one that is out of memory.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.cmd.Wait()
}

// stop lets the child end by itself.
func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}
