// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-dev/berth/pkg/agent"
)

const (
	// often is how often memory is read where its changes are timed.
	often = 10 * time.Millisecond
	// slack is what an allocation may take beyond its size (pages of 2 MiB), and what may change on a device beside it.
	slack = 16 * mib
	// spare is what a GPU must have free beyond what is allocated, for two contexts.
	spare = 2 << 30
)

// checkDevice lets processes allocate and compute on a GPU that has room for them.
func (s *session) checkDevice(ctx context.Context, d *agent.Device) {
	f := finding{Name: "memory of a process", Device: d.UUID, Model: d.Model}
	if d.Reason != "" {
		s.skip(f, "the agent says that the GPU is unhealthy: "+d.Reason+" "+d.Message)
		return
	}
	if free := freeOf(d.Memory); free < 2*s.o.bytes+spare {
		s.skip(f, fmt.Sprintf("%d MiB are free, which is too little for two CUDA processes; another -mib?", free/mib))
		return
	}
	idle := *d
	a, err := holdMemory(s.o, d.UUID)
	if err != nil {
		if strings.HasPrefix(err.Error(), errNoCUDA{}.Error()) {
			s.skip(f, err.Error())
		} else {
			s.finish(f, err.Error())
		}
		return
	}
	defer a.kill()
	if !s.checkMemory(ctx, f, a, s.o.bytes) {
		return
	}
	b, err := holdMemory(s.o, d.UUID)
	if err != nil {
		s.finish(finding{Name: "memory of a second process", Device: d.UUID}, err.Error())
		return
	}
	defer b.kill()
	if !s.checkMemory(ctx, finding{Name: "memory of a second process", Device: d.UUID}, b, s.o.bytes/2) {
		return
	}
	if d.Parent == "" {
		s.compare(ctx, d, "with two processes")
	}
	s.checkAttribution(ctx, d.UUID, a.pid())
	s.checkActivity(ctx, d.UUID, a, b)
	b.stop()
	// What the second process held has to be back first.
	_, _, err = s.watch(ctx, d.UUID, b.pid(), often, s.o.patience, func(now *agent.Device, p *agent.Process) bool {
		first := processOf(now, a.pid())
		return p == nil && first != nil && now.Memory.Used <= idle.Memory.Used+first.Memory+slack
	})
	if err != nil {
		s.finish(finding{Name: "memory after the process is killed", Device: d.UUID}, err.Error())
		return
	}
	s.checkDeath(ctx, &idle, a)
}

// checkMemory has a process allocate, and looks whether just that is added to what the agent reads of it. It returns
// whether the agent sees the process.
func (s *session) checkMemory(ctx context.Context, f finding, c *child, bytes uint64) bool {
	_, listed, err := s.watch(ctx, f.Device, c.pid(), often, s.o.patience,
		func(_ *agent.Device, p *agent.Process) bool { return p != nil })
	if err == nil && !listed {
		err = errors.New("the driver does not list the process by its PID; run this in the PID namespace of the host (docker run --pid=host)")
	}
	if err != nil {
		s.finish(f, err.Error())
		return false
	}
	// A context is there when its creation has returned, so this is all that it takes.
	before, err := s.device(ctx, f.Device)
	if err == nil {
		err = c.ask("alloc %d", bytes)
	}
	if err != nil {
		s.finish(f, err.Error())
		return false
	}
	own := processOf(before, c.pid()).Memory
	var got, used int64
	series, ok, err := s.watch(ctx, f.Device, c.pid(), often, s.o.patience, func(d *agent.Device, p *agent.Process) bool {
		if p == nil {
			return false
		}
		got, used = int64(p.Memory)-int64(own), int64(d.Memory.Used)-int64(before.Memory.Used)
		return near(got, bytes) && near(used, bytes)
	})
	f.Measured = map[string]float64{
		"contextMiB": float64(own) / mib, "allocatedMiB": float64(bytes) / mib, "addedToProcessMiB": float64(got) / mib,
		"addedToDeviceMiB": float64(used) / mib, "seenAfterMillis": float64(last(series).Millis),
	}
	var wrong []string
	if err != nil {
		wrong = append(wrong, err.Error())
	} else if !ok {
		wrong = append(wrong, fmt.Sprintf("of %d MiB that were allocated, the agent sees %d at the process and %d at the device",
			bytes/mib, got/mib, used/mib))
	}
	s.finish(f, wrong...)
	return true
}

func near(got int64, want uint64) bool { return got >= int64(want) && got <= int64(want+slack) }

// checkActivity has one of two processes compute, and looks when the agent, reading as often as it does, sees that it
// starts and that it stops, and that it does not take the other one for active.
func (s *session) checkActivity(ctx context.Context, uuid string, busy, idle *child) {
	f := finding{Name: "activity", Device: uuid}
	d, err := s.device(ctx, uuid)
	if err == nil && !d.ActivityMeasured {
		s.skip(f, "the driver does not measure activity on this device (MIG, MPS, or before Maxwell)")
		return
	}
	if err == nil {
		err = busy.ask("busy")
	}
	if err != nil {
		s.finish(f, err.Error())
		return
	}
	var wrong []string
	other := false
	seen := func(d *agent.Device) {
		if p := processOf(d, idle.pid()); p != nil && p.Active {
			other = true
		}
	}
	started, ok, err := s.watch(ctx, uuid, busy.pid(), agent.DefaultReadInterval, s.o.patience, func(d *agent.Device, p *agent.Process) bool {
		seen(d)
		return p != nil && p.Active
	})
	if err == nil && !ok {
		wrong = append(wrong, "a process computes, and the agent does not see it")
	}
	if err == nil {
		err = busy.ask("idle")
	}
	var stopped []sample
	if err == nil {
		// The driver's samples come late, and not with each reading: so long without one is what the agent calls idle.
		inactiveSince := time.Now()
		stopped, ok, err = s.watch(ctx, uuid, busy.pid(), agent.DefaultReadInterval, s.o.patience, func(d *agent.Device, p *agent.Process) bool {
			seen(d)
			if p == nil || p.Active {
				inactiveSince = time.Now()
			}
			return time.Since(inactiveSince) >= agent.DefaultActivityHold
		})
		if err == nil && !ok {
			wrong = append(wrong, "a process has stopped to compute, and the agent does not see it")
		}
	}
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	if other {
		wrong = append(wrong, "a process is active that did not compute")
	}
	f.Measured = map[string]float64{
		"startSeenAfterMillis": float64(last(started).Millis), "stopSeenAfterMillis": float64(last(stopped).Millis),
	}
	f.Series = shorten(append(started, stopped...))
	s.finish(f, wrong...)
}

// checkDeath kills a process, and measures how long its memory stays in use and how long the driver lists it.
func (s *session) checkDeath(ctx context.Context, idle *agent.Device, c *child) {
	f := finding{Name: "memory after the process is killed", Device: idle.UUID, Measured: map[string]float64{}}
	dead := make(chan struct{})
	go func() {
		c.kill()
		close(dead)
	}()
	listed, used := true, true
	began := time.Now()
	series, ok, err := s.watch(ctx, idle.UUID, c.pid(), often, s.o.patience, func(d *agent.Device, p *agent.Process) bool {
		millis := float64(time.Since(began).Milliseconds())
		if listed && p == nil {
			listed, f.Measured["noLongerListedAfterMillis"] = false, millis
		}
		if used && d.Memory.Used <= idle.Memory.Used+slack {
			used, f.Measured["memoryBackAfterMillis"] = false, millis
		}
		return !listed && !used
	})
	<-dead
	f.Series = shorten(series)
	switch {
	case err != nil:
		s.finish(f, err.Error())
	case !ok:
		now := last(series)
		s.finish(f, fmt.Sprintf("after %s it is listed: %t, and the device has %d MiB in use, of which %d were before",
			s.o.patience, now.Listed, now.UsedMiB, idle.Memory.Used/mib))
	default:
		s.finish(f)
	}
}
