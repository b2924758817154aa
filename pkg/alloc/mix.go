// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"math"
	"math/bits"
)

// Host is what a node has, or a pod takes, beside devices.
type Host struct {
	// CPU is in thousandths of a core.
	CPU uint64
	// Memory is the host's, not that of devices.
	Memory Bytes
}

// Minus returns h − o, each part at least zero.
func (h Host) Minus(o Host) Host {
	return Host{h.CPU - min(h.CPU, o.CPU), h.Memory.Minus(o.Memory)}
}

// Kind is one kind of request in a mix.
type Kind struct {
	// Devices is how many devices it is for, and Share what it takes of each. Both are above zero.
	Devices int
	Share   Bytes
	// Host is what it takes beside devices.
	Host Host
	// Count is how many requests are of the kind.
	Count int
}

// Mix is what a cluster is asked for, by kind: what the strategy Fragmentation keeps nodes fit for. It never changes.
type Mix struct{ kinds []mixedKind }

// MaxKinds is how many kinds a mix can have (sets of kinds are bit masks).
const MaxKinds = 64

// mixedKind is a kind in the units in which a mix is worked out: MiB, of devices and of the host, and thousandths of a core.
type mixedKind struct {
	devices int
	share   uint64
	host    hostUnits
	// perCPU and perMemory are how much memory of devices requests of this kind use for each unit of the host that they
	// take, times 1 << rateBits.
	perCPU, perMemory uint64
	// weight is how frequent the kind is: all weights together are at most mixWeight.
	weight uint64
}

type hostUnits struct{ cpu, memory uint64 }

const (
	mixWeight = 1 << 16
	// hostShares is how many times the memory of devices a node's free CPU and host memory count for that requests of one kind
	// would use with it: such requests do not come alone, and others make do with less. Over the traces of docs/performance.md 1 is
	// too little, and 2 and 3 are alike.
	hostShares = 2
	rateBits   = 16
	// unitCeiling bounds what one device can have free, 16 TiB, so that no sum overflows: 64 devices × 2^24 MiB × mixWeight
	// is 2^46.
	unitCeiling = 1 << 24
)

// NewMix returns the mix of some kinds, of which those beyond MaxKinds are left out; nil if there are none.
func NewMix(kinds []Kind) *Mix {
	kinds = kinds[:min(len(kinds), MaxKinds)]
	total := 0
	for i := range kinds {
		total += kinds[i].Count
	}
	if total == 0 {
		return nil
	}
	m := &Mix{make([]mixedKind, len(kinds))}
	for i := range kinds {
		k := &kinds[i]
		share := min(k.Share.DividedUp(mib).n, unitCeiling)
		host := hostUnits{k.Host.CPU, k.Host.Memory.DividedUp(mib).n}
		all := hostShares * share * uint64(k.Devices)
		m.kinds[i] = mixedKind{
			devices: k.Devices, share: share, host: host, weight: uint64(k.Count) * mixWeight / uint64(total),
			perCPU: rate(all, host.cpu), perMemory: rate(all, host.memory),
		}
	}
	return m
}

// Len returns how many kinds the mix has.
func (m *Mix) Len() int {
	if m == nil {
		return 0
	}
	return len(m.kinds)
}

// unlimited is the rate of requests that take nothing of it.
const unlimited = math.MaxUint64

// rate returns a/b times 1 << rateBits, rounded up.
func rate(a, b uint64) uint64 {
	if b == 0 {
		return unlimited
	}
	return (a<<rateBits + b - 1) / b // up, so that no rounding makes memory useless
}

// atRate returns how much is used for so much of the host.
func atRate(host, rate uint64) uint64 {
	hi, lo := bits.Mul64(host, rate)
	if hi != 0 || rate == unlimited {
		return math.MaxUint64
	}
	return lo >> rateBits
}

// Outlook is what a node is kept fit for.
type Outlook struct {
	// Mix is never nil.
	Mix *Mix
	// Kinds has bit i set if requests of the mix's kind i may be on the node at all, by its labels.
	Kinds uint64
	// Host is what is free on the node beside devices, and Needs what the pod takes of it that is to be placed.
	Host, Needs Host
}

// Cost returns by how much more of the node's free memory is of no use once a pod is on it, in MiB × 65536; it may be
// negative. The pod takes the node's Outlook.Needs and, unless nil, an allocation.
//
// How much of a node's free memory is of no use is the mean over the kinds of the mix, each as often as it was asked for,
// of what requests of that kind alone could not use: what is free on devices with less than the share; everything where
// there are not enough devices with as much, of one model, or not the CPU and memory for a single one, or where the kind may not be; and
// of the rest what is more than twice of what such requests would use with the free CPU and host memory, in proportion.
//
// It is the measure of fragmentation gradient descent (Weng et al., "Beware of Fragmentation", USENIX ATC 2023) but for the last
// part. There a node with one free core and eight free devices is as good as whole to a kind that takes a core and a device.
func Cost(n *Node, a *Allocation) int64 {
	if n.Outlook == nil || len(n.Devices) > MaxDevices {
		return 0
	}
	p := idleOn(n)
	before := p.useless(n.Outlook, n.Outlook.Host)
	if a != nil {
		for i := range a.Devices {
			if at := n.Position(a.Devices[i].UUID); at >= 0 {
				p.set(at, n.Devices[at].Free().Minus(a.Devices[i].Memory))
			}
		}
	}
	return int64(p.useless(n.Outlook, n.Outlook.Host.Minus(n.Outlook.Needs))) - int64(before)
}

// rankCostBits are those of a rank below the option: what a pod costs, at most 2^46 either way, and links.
const rankCostBits = 57

// Rank returns how good it is to place a pod by an allocation on a node with a mix, over all nodes and 64-bit numbers: fewer
// devices first, then the least Cost, then the most fast links among the devices.
func Rank(n *Node, a *Allocation) int64 {
	const linksBits = 10
	var set uint64
	for i := range a.Devices {
		if at := n.Position(a.Devices[i].UUID); at >= 0 && at < MaxDevices {
			set |= 1 << at
		}
	}
	return -int64(min(a.Option, 31))<<rankCostBits - Cost(n, a)<<linksBits + int64(linkedPart(n, set))
}

// OptionOf returns the option of the allocation that Rank returned a rank for, at most 31.
func OptionOf(rank int64) int {
	return int(-((rank + 1<<(rankCostBits-1)) >> rankCostBits))
}

// idleMemory is what is free on the devices of a node, in MiB.
type idleMemory struct {
	free [MaxDevices]uint64
	// model numbers the models of the devices, from 0, and models is how many there are.
	model  [MaxDevices]uint8
	models uint8
	// instances are the devices that are MIG instances, which are never used together.
	instances uint64
	n         int
}

func idleOn(n *Node) (p idleMemory) {
	p.n = len(n.Devices)
	for i := range n.Devices {
		d := &n.Devices[i]
		p.set(i, d.Free())
		if d.Parent != "" {
			p.instances |= 1 << i
		}
		p.model[i] = p.models
		for j := range i {
			if n.Devices[j].Model == d.Model {
				p.model[i] = p.model[j]
				break
			}
		}
		if p.model[i] == p.models {
			p.models++
		}
	}
	return p
}

func (p *idleMemory) set(i int, free Bytes) { p.free[i] = min(free.n/mib, unitCeiling) }

// useless returns how much of what is free is of no use to the mix, times mixWeight, with that much of the host free.
func (p *idleMemory) useless(o *Outlook, host Host) uint64 {
	var idle, useful uint64
	for i := range p.n {
		idle += p.free[i]
	}
	if idle == 0 {
		return 0
	}
	cpu, memory := host.CPU, host.Memory.n/mib
	for rest := o.Kinds; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros64(rest)
		if i >= len(o.Mix.kinds) {
			break
		}
		k := &o.Mix.kinds[i]
		if cpu < k.host.cpu || memory < k.host.memory {
			continue
		}
		useful += k.weight * min(p.usable(k), atRate(cpu, k.perCPU), atRate(memory, k.perMemory))
	}
	return idle*mixWeight - useful
}

// usable returns how much is free on devices that a request of a kind could be on.
func (p *idleMemory) usable(k *mixedKind) (usable uint64) {
	for model := range p.models {
		count, sum := 0, uint64(0)
		for i := range p.n {
			if p.free[i] < k.share || p.model[i] != model || k.devices > 1 && p.instances&(1<<i) != 0 {
				continue
			}
			count++
			sum += p.free[i]
		}
		if count >= k.devices {
			usable += sum
		}
	}
	return usable
}

// weighByMix sets the weight of each device to what it costs to take the option's smallest share of it, which adds up over
// the devices of a set only roughly, but makes it a matter of the devices alone.
func (f *finder) weighByMix(o *Option) {
	n := f.node
	p, host := idleOn(n), n.Outlook.Host.Minus(n.Outlook.Needs)
	before := p.useless(n.Outlook, host)
	for j := range f.usable {
		i := f.order[j]
		free, d := p.free[i], &n.Devices[i]
		p.set(int(i), f.free[i].Minus(o.On(len(o.Shares)-1, d)))
		// From mixWeight × MiB to bytes, the unit of the other weights.
		f.weight[i] = weightCeiling + (p.useless(n.Outlook, host)-before)<<4
		p.free[i] = free
	}
}
