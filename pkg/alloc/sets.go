// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package alloc

import "math/bits"

// Which sets of devices can hold an option is decided by thresholds alone: a share fits wherever a smaller one would
// not fail either. So a set holds the option exactly if, for each i, its i+1 freest devices can each hold share i;
// the sets that can be extended to one that does form a matroid (a transversal matroid with nested neighbourhoods),
// and taking devices lightest first, skipping those that cannot be part of it, finds the lightest set.

// amounts is a number of bytes for each device of a node, by position.
type Amounts [MaxDevices]Bytes

// Room returns how many of the option's shares device d could hold with that much available, counted from the
// smallest share. Zero also when the fraction that the engine takes in any case is more than that, and for a MIG
// instance if the option has other devices.
func (o *Option) Room(d *Device, available Bytes) int {
	if !o.opens(d) {
		return 0
	}
	if available.Less(o.takes(d)) || available.Less(o.alone(d)) {
		return 0
	}
	k := len(o.Shares)
	if !available.Less(o.Shares[0]) {
		return k
	}
	room := 0
	for room < k && !available.Less(o.Shares[k-1-room]) {
		room++
	}
	return room
}

// opens says whether the engine could use the device in a set as large as the option's. A CUDA process enumerates one
// MIG instance, however many it was given (NVIDIA MIG User Guide, CUDA Device Enumeration), and no engine that is known
// here gives each of its ranks an instance of its own.
func (o *Option) opens(d *Device) bool { return d.Parent == "" || len(o.Shares) == 1 }

// group selects the devices that may be in one set: those of one model, or all; of one NUMA node, unless numa is 0.
type group struct {
	model string
	all   bool
	numa  int
}

func (g *group) has(d *Device) bool {
	return (g.all || d.Model == g.model) && (g.numa == 0 || d.NUMA == g.numa)
}

// Together returns the sets of devices (bit i: Node.Devices[i]) of which any number may be used together: those of each
// model or, if mixed is set, all.
func Together(n *Node, mixed bool) []uint64 {
	var sets []uint64
	for i := range n.Devices {
		if mixed && i > 0 || !mixed && !firstOfModel(n, i) {
			continue
		}
		g := group{model: n.Devices[i].Model, all: mixed}
		var set uint64
		for j := range n.Devices {
			if g.has(&n.Devices[j]) {
				set |= 1 << j
			}
		}
		sets = append(sets, set)
	}
	return sets
}

// firstOfModel says whether no device before position i has its model.
func firstOfModel(n *Node, i int) bool {
	for j := range i {
		if n.Devices[j].Model == n.Devices[i].Model {
			return false
		}
	}
	return true
}

// holds says whether devices of the group, with that much available on each, can hold the option.
func holds(n *Node, o *Option, g group, available *Amounts) bool {
	k := len(o.Shares)
	if k > len(n.Devices) {
		return false
	}
	var count [MaxDevices + 1]uint8 // devices by room
	total := 0
	for i := range n.Devices {
		d := &n.Devices[i]
		if available[i].IsZero() || !g.has(d) {
			continue
		}
		if room := o.Room(d, available[i]); room > 0 {
			count[room]++
			total++
		}
	}
	if total < k {
		return false
	}
	// Share i, counted from the largest, fits on the devices with room for k−i shares or more.
	fit := 0
	for i := range k {
		fit += int(count[k-i])
		if fit <= i {
			return false
		}
	}
	return true
}

// holdsAny says whether devices that may be used together can hold the option.
func holdsAny(n *Node, o *Option, mixed bool, available *Amounts) bool {
	if mixed {
		return holds(n, o, group{all: true}, available)
	}
	for i := range n.Devices {
		if firstOfModel(n, i) && holds(n, o, group{model: n.Devices[i].Model}, available) {
			return true
		}
	}
	return false
}

// finder finds the best set of devices for options on one node.
type finder struct {
	node     *Node
	strategy Strategy
	free     Amounts
	weight   [MaxDevices]uint64
	// order lists the devices that have anything free, lightest first, then by UUID.
	order  [MaxDevices]uint8
	usable int
	// linked says whether any usable device has a fast link.
	linked bool
	// numa says whether sets can be on one NUMA node or on several.
	numa bool
}

// use points the finder at a node, whose devices must be in the order of their UUIDs.
func (f *finder) use(n *Node, s Strategy) {
	f.node, f.strategy = n, s
	for i := range n.Devices {
		d := &n.Devices[i]
		if free := d.Free(); !free.IsZero() {
			f.free[i] = free
			f.order[f.usable] = uint8(i)
			f.usable++
			f.linked = f.linked || d.Links != 0
		}
	}
	f.numa = f.spansNUMA()
	if s != Fragmentation { // whose weights depend on the option
		f.weigh(nil)
	}
}

// weigh computes the weights and sorts by them.
func (f *finder) weigh(o *Option) {
	byMix := f.strategy == Fragmentation && f.node.Outlook != nil
	if byMix {
		f.weighByMix(o)
	}
	for j := range f.usable {
		i := f.order[j]
		w := f.weight[i]
		if !byMix {
			w = f.strategy.weight(o, &f.node.Devices[i], f.free[i])
			f.weight[i] = w
		}
		at := j
		for at > 0 && (f.weight[f.order[at-1]] > w || f.weight[f.order[at-1]] == w && f.order[at-1] > i) {
			f.order[at] = f.order[at-1]
			at--
		}
		f.order[at] = i
	}
}

// choice is a set of devices (bit i: Node.Devices[i]) and its place in the documented order.
type choice struct {
	set    uint64
	weight uint64
	links  int // counted from both ends
	// split says that the set is on more than one NUMA node.
	split bool
}

// weightStep is how finely weights are compared before links: 2^26 bytes are 64 MiB, the quantum of the agent's
// reports. Without it, a few bytes of difference in measured use would outweigh a fast link.
const weightStep = 26

// better says whether c comes before o; both hold the same option, and both are of one model or both are not.
func (c *choice) better(o *choice) bool {
	switch {
	case c.weight>>weightStep != o.weight>>weightStep:
		return c.weight < o.weight
	case c.links != o.links:
		return c.links > o.links
	case c.split != o.split:
		return !c.split
	case c.weight != o.weight:
		return c.weight < o.weight
	}
	return before(c.set, o.set)
}

// before compares two sets of equal size by the UUIDs of their devices in order: the first that differs decides.
func before(a, b uint64) bool {
	differ := a ^ b
	return a&(differ&-differ) != 0
}

// best returns the best set of devices for the option.
func (f *finder) best(o *Option, mixed bool) (choice, bool) {
	n := f.node
	if len(o.Shares) > f.usable {
		return choice{}, false
	}
	if f.strategy == Fragmentation {
		f.weigh(o)
	}
	if mixed {
		all := group{all: true}
		lightest, ok := f.lightest(o, all)
		if !ok {
			return choice{}, false
		}
		// Devices of one model win between equals.
		if c, ok := f.bestOfOneModel(o); ok && c.weight>>weightStep == lightest.weight>>weightStep {
			return c, true
		}
		return f.onOneNUMA(o, all, f.withLinks(o, all, lightest)), true
	}
	if len(n.Devices) == 0 {
		return choice{}, false
	}
	return f.bestOfOneModel(o)
}

// bestOfOneModel returns the best set of devices of one model.
func (f *finder) bestOfOneModel(o *Option) (best choice, found bool) {
	n := f.node
	for i := range n.Devices {
		if !firstOfModel(n, i) {
			continue
		}
		g := group{model: n.Devices[i].Model}
		c, ok := f.lightest(o, g)
		if !ok || found && c.weight>>weightStep > best.weight>>weightStep {
			continue
		}
		c = f.onOneNUMA(o, g, f.withLinks(o, g, c))
		if !found || c.better(&best) {
			best, found = c, true
		}
	}
	return best, found
}

// lightest returns the set of least weight, of those the one of the first UUIDs.
func (f *finder) lightest(o *Option, g group) (choice, bool) {
	var c choice
	var taken rooms
	k := len(o.Shares)
	for _, i := range f.order[:f.usable] {
		d := &f.node.Devices[i]
		if !g.has(d) || !taken.add(o.Room(d, f.free[i]), k) {
			continue
		}
		c.set |= 1 << i
		c.weight += f.weight[i]
		if taken.total == k {
			c.links = f.linksWithin(c.set)
			return c, true
		}
	}
	return choice{}, false
}

// rooms counts the devices of a set by how many of the k shares each could hold.
type rooms struct {
	count [MaxDevices + 1]uint8
	total int
}

// add adds a device of that room unless the set could then not be part of one that holds all k shares: of the
// devices with room for at most t shares, which can only be the t smallest, there may be at most t.
func (r *rooms) add(room, k int) bool {
	if room == 0 {
		return false
	}
	if room < k {
		r.count[room]++
		upTo := 0
		for t := 1; t < k; t++ {
			if upTo += int(r.count[t]); upTo > t {
				r.count[room]--
				return false
			}
		}
	}
	r.total++
	return true
}

// remove undoes add.
func (r *rooms) remove(room, k int) {
	if room < k {
		r.count[room]--
	}
	r.total--
}

// linksWithin counts the fast links within the set, from both ends.
func (f *finder) linksWithin(set uint64) int {
	if !f.linked {
		return 0
	}
	links := 0
	for rest := set; rest != 0; rest &= rest - 1 {
		links += bits.OnesCount64(f.node.Devices[bits.TrailingZeros64(rest)].Links & set)
	}
	return links
}

// assign matches the option's shares to the devices of the set and writes the bookings to out, which has one entry
// per share, in the driver's order of devices.
//
// The largest share may go to any device that can hold it without making the rest impossible: the device that it
// would otherwise have gone to can hold whatever it displaces.
func (f *finder) assign(o *Option, set uint64, out []DeviceShare) {
	n := f.node
	var booked Amounts
	rest := set
	for share := range o.Shares {
		i := f.place(o, share, rest)
		booked[i] = o.On(share, &n.Devices[i])
		rest &^= 1 << i
	}
	var order [MaxDevices]uint8
	sorted := order[:0]
	for rest := set; rest != 0; rest &= rest - 1 {
		i := uint8(bits.TrailingZeros64(rest))
		at := len(sorted)
		sorted = append(sorted, i)
		for ; at > 0 && n.Devices[sorted[at-1]].Index > n.Devices[i].Index; at-- {
			sorted[at] = sorted[at-1]
		}
		sorted[at] = i
	}
	for at, i := range sorted {
		out[at] = DeviceShare{UUID: n.Devices[i].UUID, Memory: booked[i]}
	}
}

// place returns the device of the set for that share: where it leaves the least, or, to spread, the most.
func (f *finder) place(o *Option, share int, set uint64) int {
	if o.Shares[0] == o.Shares[len(o.Shares)-1] { // it makes no difference
		return bits.TrailingZeros64(set)
	}
	chosen, chosenLeft := 0, Bytes{}
	found := false
	for ; set != 0; set &= set - 1 {
		i := bits.TrailingZeros64(set)
		need := o.On(share, &f.node.Devices[i])
		if f.free[i].Less(need) {
			continue
		}
		left := f.free[i].Minus(need)
		better := left.Less(chosenLeft)
		if f.strategy == LeastAllocated {
			better = chosenLeft.Less(left)
		}
		if !found || better {
			chosen, chosenLeft, found = i, left, true
		}
	}
	return chosen
}
