// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/berth-dev/berth/pkg/agent"
)

// activityFailuresTolerated is for how many readings in a row activity that cannot be read stands as it was last read.
const activityFailuresTolerated = 3

// activity is what is known of a device's utilization samples beyond one reading.
type activity struct {
	// newest is the driver's time of the newest sample seen, in microseconds.
	newest uint64
	// stamps is the driver's time of the last sample of each process that is listed.
	stamps map[int]uint64
	// active are the processes that computed by the last reading that succeeded.
	active   map[int]bool
	failures int
	// measured is whether a reading succeeded at all.
	measured bool
}

// readActivity marks the processes that computed since the reading before. A process without a sample did not: the
// driver has samples only of those that did. A call that does not exist for the device (MIG, old GPUs) leaves the
// activity unmeasured, which is not idleness.
func (r *Reader) readActivity(h handle, d *device, out *agent.Device) {
	a := &d.activity
	listed := make(map[int]bool, len(out.Processes))
	for _, p := range out.Processes {
		listed[p.PID] = true
	}
	active, ret := r.activeProcesses(h, a, listed)
	switch {
	case ret == nvml.SUCCESS:
		a.active, a.failures, a.measured = active, 0, true
	case absent(ret):
		*a = activity{}
		return
	default:
		if a.failures++; a.failures > activityFailuresTolerated || !a.measured {
			return
		}
	}
	out.ActivityMeasured = true
	for i := range out.Processes {
		p := &out.Processes[i]
		p.Active = a.active[p.PID]
		p.ActivityUnknown = p.ActivityUnknown && !p.Active
	}
}

// activeProcesses returns the processes with samples that are newer than the newest one seen.
//
// Samples are stamped with the time of day, and the driver returns those after a given time. When that clock is set
// back, new samples are before the newest one seen, and a busy process would look idle for as long as the clock was set
// back. So samples are new, too, if they are after now, or, where all that there are come before the newest seen, if
// they are others than those that the processes had.
func (r *Reader) activeProcesses(h handle, a *activity, listed map[int]bool) (map[int]bool, nvml.Return) {
	since := min(a.newest, uint64(max(0, r.now().UnixMicro())))
	samples, ret := r.samples(h, since)
	if ret != nvml.SUCCESS {
		return nil, ret
	}
	if newestOf(samples) <= since && since > 0 {
		if all, ret := r.samples(h, 0); ret == nvml.SUCCESS && newestOf(all) > 0 && newestOf(all) < since {
			samples, since = all, 0
		}
	}
	a.newest = max(since, newestOf(samples))
	computed, stamps := map[int]bool{}, map[int]uint64{}
	for _, s := range samples {
		// Drivers fill up the list with empty samples, and repeat old ones.
		if s.TimeStamp <= since {
			continue
		}
		pid := int(s.Pid)
		computed[pid] = computed[pid] || s.SmUtil > 0 || s.MemUtil > 0 || s.EncUtil > 0 || s.DecUtil > 0
		stamps[pid] = max(stamps[pid], s.TimeStamp)
	}
	active := map[int]bool{}
	for pid := range computed {
		active[pid] = computed[pid] && stamps[pid] != a.stamps[pid]
	}
	for pid, stamp := range a.stamps {
		if _, newer := stamps[pid]; !newer && listed[pid] {
			stamps[pid] = stamp
		}
	}
	a.stamps = stamps
	return active, nvml.SUCCESS
}

// samples returns the samples after a time. That there are none is no error.
func (r *Reader) samples(h handle, since uint64) ([]nvml.ProcessUtilizationSample, nvml.Return) {
	// A process that starts between the two calls that go-nvml makes is too many for its buffer: once more.
	for range 2 {
		samples, ret := call(r, func() ([]nvml.ProcessUtilizationSample, nvml.Return) {
			return h.GetProcessUtilization(since)
		}, "nvmlDeviceGetProcessUtilization")
		switch {
		case ret == nvml.SUCCESS, absent(ret):
			return samples, ret
		case ret == nvml.ERROR_NOT_FOUND, ret == nvml.ERROR_INSUFFICIENT_SIZE && samples != nil && len(samples) == 0:
			return nil, nvml.SUCCESS
		}
	}
	return nil, nvml.ERROR_UNKNOWN
}

func newestOf(samples []nvml.ProcessUtilizationSample) uint64 {
	var newest uint64
	for _, s := range samples {
		newest = max(newest, s.TimeStamp)
	}
	return newest
}
