// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/berth-dev/berth/pkg/agent"
)

// session is the look at one machine.
type session struct {
	o      *options
	reader agent.Reader
	report *report
	log    io.Writer
}

// add takes down what was found, and tells it.
func (s *session) add(f finding) {
	s.report.Checks = append(s.report.Checks, f)
	text := f.Result + ": " + f.Name
	if f.Device != "" {
		text += " on " + f.Device
	}
	if f.Message != "" {
		text += ": " + f.Message
	}
	fmt.Fprintln(s.log, text)
}

// finish takes down a finding by what is wrong, if anything is.
func (s *session) finish(f finding, wrong ...string) {
	f.Result = passed
	if len(wrong) > 0 {
		f.Result, f.Message = failed, strings.Join(wrong, "; ")
	}
	s.add(f)
}

func (s *session) skip(f finding, why string) {
	f.Result, f.Message = skipped, why
	s.add(f)
}

// device reads all GPUs and returns one of them.
func (s *session) device(ctx context.Context, uuid string) (*agent.Device, error) {
	reading, err := s.reader.Read(ctx)
	if err != nil {
		return nil, err
	}
	for i := range reading.Devices {
		if reading.Devices[i].UUID == uuid {
			return &reading.Devices[i], nil
		}
	}
	return nil, fmt.Errorf("the agent does not list %s any more", uuid)
}

// compareTries is how often a machine is compared again on which processes come and go.
const compareTries = 3

// compareAll compares all whole GPUs with what nvidia-smi says of them. It does not list MIG instances.
func (s *session) compareAll(ctx context.Context, when string) {
	reading, err := s.reader.Read(ctx)
	if err != nil {
		s.finish(finding{Name: "nvidia-smi, " + when}, err.Error())
		return
	}
	for i := range reading.Devices {
		if reading.Devices[i].Parent == "" {
			s.compare(ctx, &reading.Devices[i], when)
		}
	}
}

func (s *session) compare(ctx context.Context, d *agent.Device, when string) {
	f := finding{Name: "nvidia-smi, " + when, Device: d.UUID, Model: d.Model}
	var wrong []string
	for range compareTries {
		said, after, err := s.askBoth(ctx, &d)
		if err != nil {
			s.finish(f, err.Error())
			return
		}
		if wrong = said.differences(d, after); len(wrong) == 0 {
			break
		}
	}
	f.Measured = map[string]float64{
		"totalMiB": float64(d.Memory.Total) / mib, "reservedMiB": float64(d.Memory.Reserved) / mib,
		"usedMiB": float64(d.Memory.Used) / mib, "processes": float64(len(d.Processes)),
	}
	s.finish(f, wrong...)
}

// askBoth reads a device, into *before, asks nvidia-smi, and reads it again.
func (s *session) askBoth(ctx context.Context, before **agent.Device) (said *smi, after *agent.Device, err error) {
	if *before, err = s.device(ctx, (*before).UUID); err != nil {
		return nil, nil, err
	}
	if said, err = askSMI(ctx, s.o.nvidiaSMI); err != nil {
		return nil, nil, err
	}
	after, err = s.device(ctx, (*before).UUID)
	return said, after, err
}

// watch reads a device again and again until met holds or the time is over, and returns what was read of one process.
func (s *session) watch(ctx context.Context, uuid string, pid int, every, atMost time.Duration,
	met func(*agent.Device, *agent.Process) bool,
) (series []sample, ok bool, err error) {
	for began := time.Now(); ; {
		d, err := s.device(ctx, uuid)
		if err != nil {
			return series, false, err
		}
		since := time.Since(began)
		p := processOf(d, pid)
		now := sample{Millis: since.Milliseconds(), UsedMiB: d.Memory.Used / mib, Listed: p != nil}
		if p != nil {
			now.ProcessMiB, now.Active = p.Memory/mib, p.Active
		}
		series = append(series, now)
		if met(d, p) {
			return series, true, nil
		}
		if since > atMost {
			return series, false, nil
		}
		select {
		case <-ctx.Done():
			return series, false, ctx.Err()
		case <-time.After(every):
		}
	}
}

// shorten leaves out samples that say what the one before and the one after say.
func shorten(series []sample) []sample {
	same := func(a, b sample) bool {
		a.Millis, b.Millis = 0, 0
		return a == b
	}
	var short []sample
	for i, v := range series {
		if i == 0 || i == len(series)-1 || !same(v, series[i-1]) || !same(v, series[i+1]) {
			short = append(short, v)
		}
	}
	return short
}

func last(series []sample) sample {
	if len(series) == 0 {
		return sample{}
	}
	return series[len(series)-1]
}
