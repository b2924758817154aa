// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpusim

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
)

const (
	// driverVersion is what the simulated driver says of itself.
	driverVersion = "580.159.04"
	// DrainTime is how long the memory of a process takes to come back after the process is gone.
	DrainTime = 2 * time.Second
	// contextMemory is what a process holds as soon as it has a CUDA context.
	contextMemory = 400 << 20
	// foreignPID is the PID of the foreign process on GPU 0, and so on; pods' processes follow after them.
	foreignPID = 1000
	firstPID   = 2000
)

// Hardware is the simulated GPUs of one node. Its methods can be called concurrently.
type Hardware struct {
	node  string
	clock clock.PassiveClock

	mu   sync.Mutex
	spec *Spec
	// devices are the GPUs as they are when nobody uses them.
	devices   []agent.Device
	processes map[types.UID]*process
	lastPID   int
}

// process is the process of one pod.
type process struct {
	pid int
	use Use
	// gone is when it ended; zero while it runs.
	gone time.Time
}

var (
	_ agent.Reader     = (*Hardware)(nil)
	_ agent.Attributor = (*Hardware)(nil)
	_ agent.Names      = (*Hardware)(nil)
)

// NewHardware returns the GPUs of a node.
func NewHardware(node string, spec *Spec, c clock.PassiveClock) *Hardware {
	h := &Hardware{node: node, clock: c, processes: map[types.UID]*process{}, lastPID: firstPID}
	h.Configure(spec)
	return h
}

// UUID returns the UUID of a node's GPU, the same in every lab.
func UUID(node string, index int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", node, index))
	return fmt.Sprintf("GPU-%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// Configure changes the hardware to what spec says.
func (h *Hardware) Configure(spec *Spec) {
	devices := unused(h.node, spec)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spec, h.devices = spec, devices
}

// unused returns the GPUs of a node as they are when nobody uses them.
func unused(node string, spec *Spec) []agent.Device {
	devices := make([]agent.Device, len(spec.GPUs))
	for i, model := range spec.GPUs {
		devices[i] = agent.Device{
			UUID:              UUID(node, i),
			Index:             i,
			PCIBusID:          fmt.Sprintf("00000000:%02X:00.0", i+1),
			Model:             model.Name,
			ComputeCapability: model.ComputeCapability,
			Memory:            agent.Memory{Total: model.Total, Reserved: model.Reserved},
			ActivityMeasured:  true,
			Reason:            spec.Unhealthy[i],
		}
		attach(&devices[i], i, len(devices))
	}
	for i := range devices {
		for peer := range devices {
			if i != peer && spec.GPUs[i].NVLink && spec.GPUs[peer].NVLink {
				devices[i].Links = append(devices[i].Links,
					berthv1alpha1.GPULink{Peer: devices[peer].UUID, Type: berthv1alpha1.LinkNVLink})
			}
		}
	}
	return devices
}

// oneSocket is the largest number of GPUs that hang on one CPU.
const oneSocket = 4

// attach places GPU i of n as servers do: in pairs behind a PCIe switch, the first half of more than four on NUMA node
// 0 and the others on NUMA node 1.
func attach(d *agent.Device, i, n int) {
	numa := int32(0)
	if n > oneSocket && i >= (n+1)/2 {
		numa = 1
	}
	d.NUMANode = &numa
	if first := i &^ 1; first+1 < n {
		d.PCIeSwitch = fmt.Sprintf("0000:%02x:00.0", 0x80+first)
	}
}

// Run says that a pod runs and what it does from now on.
func (h *Hardware) Run(pod types.UID, use *Use) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.processes[pod]
	if p == nil {
		h.lastPID++
		p = &process{pid: h.lastPID}
		h.processes[pod] = p
	}
	p.use, p.gone = *use, time.Time{}
}

// End says that a pod has ended: its memory begins to drain.
func (h *Hardware) End(pod types.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.processes[pod]; p != nil && p.gone.IsZero() {
		p.gone = h.clock.Now()
	}
}

// Read returns what the GPUs hold now.
func (h *Hardware) Read(context.Context) (*agent.Reading, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock.Now()
	for uid, p := range h.processes {
		if !p.gone.IsZero() && now.Sub(p.gone) >= DrainTime {
			delete(h.processes, uid)
		}
	}
	reading := &agent.Reading{DriverVersion: driverVersion, Devices: slices.Clone(h.devices)}
	for i := range reading.Devices {
		h.occupy(&reading.Devices[i], now)
	}
	return reading, nil
}

// occupy adds to an unused device what is on it.
func (h *Hardware) occupy(d *agent.Device, now time.Time) {
	if foreign := h.spec.Foreign[d.Index]; foreign > 0 {
		d.Processes = append(d.Processes, agent.Process{PID: foreignPID + d.Index, Memory: foreign})
	}
	for _, p := range h.processes {
		if memory := p.memory(d.UUID, now); memory > 0 {
			d.Processes = append(d.Processes, agent.Process{
				PID: p.pid, Memory: memory, Active: p.use.Active && p.gone.IsZero(), ActivityUnknown: p.use.ActivityUnknown,
			})
		}
	}
	for i := range d.Processes {
		p := &d.Processes[i]
		if f := h.spec.Fluctuation; f > 0 {
			random := rand.New(rand.NewPCG(uint64(p.PID), uint64(now.Unix())))
			p.Memory -= min(p.Memory, random.Uint64N(f+1))
		}
		d.Memory.Used += p.Memory
	}
	// A GPU cannot hold more than it has: a real process would have failed.
	d.Memory.Used = min(d.Memory.Used, d.Memory.Total-d.Memory.Reserved)
}

// memory returns what the process holds on a device: growing evenly while it loads, draining evenly when it is gone.
func (p *process) memory(uuid string, now time.Time) uint64 {
	full := p.use.Memory[uuid]
	if !p.gone.IsZero() {
		loaded := grown(full, p.gone.Sub(p.use.Started), p.use.LoadTime)
		return loaded - share(loaded, now.Sub(p.gone), DrainTime)
	}
	return grown(full, now.Sub(p.use.Started), p.use.LoadTime)
}

// grown is what a process that will hold full has after some time of loading.
func grown(full uint64, after, loadTime time.Duration) uint64 {
	start := min(full, contextMemory)
	return start + share(full-start, after, loadTime)
}

// share is the part of amount that is reached after some time of a span.
func share(amount uint64, after, span time.Duration) uint64 {
	switch {
	case after <= 0:
		return 0
	case after >= span:
		return amount
	}
	return uint64(float64(amount) * (float64(after) / float64(span)))
}

// Attribute returns the pods of processes; also of those that are gone and whose memory drains.
func (h *Hardware) Attribute(pids []int) map[int]types.UID {
	h.mu.Lock()
	defer h.mu.Unlock()
	byPID := make(map[int]types.UID, len(h.processes))
	for uid, p := range h.processes {
		byPID[p.pid] = uid
	}
	pods := make(map[int]types.UID, len(pids))
	for _, pid := range pids {
		if uid, ok := byPID[pid]; ok {
			pods[pid] = uid
		}
	}
	return pods
}

// Names returns the names of the pods that have processes.
func (h *Hardware) Names() (map[types.UID]types.NamespacedName, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make(map[types.UID]types.NamespacedName, len(h.processes))
	for uid, p := range h.processes {
		names[uid] = p.use.Pod
	}
	return names, nil
}

// Close does nothing: there is no driver to let go of.
func (h *Hardware) Close() error { return nil }
