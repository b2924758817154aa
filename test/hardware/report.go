// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/berth-dev/berth/internal/version"
)

// report is what was found on one machine.
type report struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Kernel is that of the machine, Driver the version of NVIDIA's.
	Kernel string `json:"kernel"`
	Driver string `json:"driver,omitempty"`
	// Skipped says why nothing was looked at.
	Skipped string    `json:"skipped,omitempty"`
	Checks  []finding `json:"checks,omitempty"`
}

// Results of a check.
const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
)

// finding is one thing that was looked at.
type finding struct {
	Name string `json:"name"`
	// Device is the UUID of the GPU; empty for what is about the machine.
	Device string `json:"device,omitempty"`
	Model  string `json:"model,omitempty"`
	Result string `json:"result"`
	// Message says what is wrong, or why it was not looked at.
	Message string `json:"message,omitempty"`
	// Measured are figures, whose names have their unit.
	Measured map[string]float64 `json:"measured,omitempty"`
	// Series is what the agent read one after the other.
	Series []sample `json:"series,omitempty"`
}

// sample is one reading of one process on one device.
type sample struct {
	// Millis is the time since the series began.
	Millis int64 `json:"ms"`
	// UsedMiB is the memory of the device in use, ProcessMiB that of the process.
	UsedMiB    uint64 `json:"usedMiB"`
	ProcessMiB uint64 `json:"processMiB"`
	// Listed says that the driver lists the process, Active that it computed since the reading before.
	Listed bool `json:"listed"`
	Active bool `json:"active,omitempty"`
}

func newReport() *report {
	r := &report{Version: version.String(), Started: time.Now().UTC()}
	var name syscall.Utsname
	if syscall.Uname(&name) == nil {
		b := make([]byte, 0, len(name.Release))
		for _, c := range name.Release {
			b = append(b, byte(c))
		}
		r.Kernel, _, _ = strings.Cut(string(b), "\x00")
	}
	return r
}

func (r *report) failed() bool {
	for i := range r.Checks {
		if r.Checks[i].Result == failed {
			return true
		}
	}
	return false
}

// write writes the report to a file, or to out if it has no name.
func (r *report) write(file string, out io.Writer) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if file != "" {
		return os.WriteFile(file, text, 0o644)
	}
	_, err = out.Write(text)
	return err
}
