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
	active, ret := r.activeProcesses(h, a)
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

func (r *Reader) activeProcesses(h handle, a *activity) (map[int]bool, nvml.Return) {
	// The driver stamps samples with the machine's clock and returns those after a time. If that clock was set back,
	// all new samples are before the newest one seen, and a busy process would look idle: then those after now count.
	since := min(a.newest, uint64(max(0, r.now().UnixMicro())))
	var samples []nvml.ProcessUtilizationSample
	ret := nvml.ERROR_UNKNOWN
	// A process that starts between the two calls that go-nvml makes is too many for its buffer: once more.
	for range 2 {
		samples, ret = call(r, func() ([]nvml.ProcessUtilizationSample, nvml.Return) {
			return h.GetProcessUtilization(since)
		}, "nvmlDeviceGetProcessUtilization")
		if ret == nvml.SUCCESS || ret == nvml.ERROR_NOT_FOUND || absent(ret) {
			break
		}
		if ret == nvml.ERROR_INSUFFICIENT_SIZE && samples != nil && len(samples) == 0 {
			ret = nvml.SUCCESS // room for no sample is needed
			break
		}
	}
	if ret == nvml.ERROR_NOT_FOUND {
		ret = nvml.SUCCESS
	}
	if ret != nvml.SUCCESS {
		return nil, ret
	}
	a.newest = since
	active := map[int]bool{}
	for _, s := range samples {
		a.newest = max(a.newest, s.TimeStamp)
		// Drivers fill up the list with empty samples, and repeat old ones.
		if s.TimeStamp > since && (s.SmUtil > 0 || s.MemUtil > 0 || s.EncUtil > 0 || s.DecUtil > 0) {
			active[int(s.Pid)] = true
		}
	}
	return active, nvml.SUCCESS
}
