// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
)

// DRA is what is known of the GPUs that drivers of dynamic resource allocation (DRA) publish, and of the claims that
// hold some. A claim holds its devices from when they are allocated to it, long before a container has them. It is safe
// for concurrent use, and readers take no lock. A nil DRA knows of none.
type DRA struct {
	drivers sets.Set[string]
	// nodes holds what is known by node name: *NodeDRA. publishing counts those of which a driver publishes GPUs.
	nodes      sync.Map
	publishing atomic.Int64

	mu sync.Mutex
	// slices are those of the drivers by name, and claims those that hold devices of theirs by UID.
	slices map[string]*resourcev1.ResourceSlice
	claims map[types.UID][]draDevice
	// pools has the slices of each pool, and held the devices of each that claims hold, with how many claims do.
	pools map[draPool]sets.Set[string]
	held  map[draPool]map[string]int
}

// NodeDRA is what a view needs to know of a node's DRA. It is immutable.
type NodeDRA struct {
	// Published says that a driver publishes GPUs of the node.
	Published bool
	// held are the devices that claims hold.
	held []heldDevice
	// unknown says that a claim holds a device of the node, and not which.
	unknown bool
}

// heldDevice is what identifies a device that a claim holds.
type heldDevice struct {
	// uuid is that of the GPU or instance. A partition that is made when its claim is prepared has none before, and
	// then it is the parent's: all of that GPU counts as held.
	uuid string
	// pci is the address of a whole GPU; one that is handed to a virtual machine has another identity.
	pci string
}

// draPool is a pool of a driver. Those of node-local drivers are named after their node.
type draPool struct{ driver, name string }

type draDevice struct {
	pool draPool
	name string
}

// DRADevice names a device of a driver.
type DRADevice struct{ Driver, Pool, Name string }

// NewDRA returns a DRA that watches drivers.
func NewDRA(drivers []string) *DRA {
	return &DRA{
		drivers: sets.New(drivers...), slices: map[string]*resourcev1.ResourceSlice{}, claims: map[types.UID][]draDevice{},
		pools: map[draPool]sets.Set[string]{}, held: map[draPool]map[string]int{},
	}
}

// Drives says whether a driver is one of those.
func (d *DRA) Drives(driver string) bool { return d != nil && d.drivers.Has(driver) }

// Publishes says whether any of the drivers publishes GPUs at all.
func (d *DRA) Publishes() bool { return d != nil && d.publishing.Load() > 0 }

// OnNode returns what is known of a node; nil if neither devices nor claims are.
func (d *DRA) OnNode(node string) *NodeDRA {
	if d == nil {
		return nil
	}
	if n, ok := d.nodes.Load(node); ok {
		return n.(*NodeDRA)
	}
	return nil
}

// SliceSeen applies a slice that was added or updated, and returns the nodes for which that changes something.
func (d *DRA) SliceSeen(s *resourcev1.ResourceSlice) []string {
	if !d.Drives(s.Spec.Driver) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	nodes := d.dropSlice(s.Name)
	d.slices[s.Name] = s
	pool := poolOf(s)
	if d.pools[pool] == nil {
		d.pools[pool] = sets.New[string]()
	}
	d.pools[pool].Insert(s.Name)
	return d.derive(append(nodes, d.nodesOf(pool)...))
}

// SliceGone applies the deletion of a slice.
func (d *DRA) SliceGone(name string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.derive(d.dropSlice(name))
}

// ClaimSeen applies a claim that was added or updated.
func (d *DRA) ClaimSeen(c *resourcev1.ResourceClaim) []string {
	devices := d.devicesOf(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Equal(devices, d.claims[c.UID]) {
		return nil
	}
	return d.derive(append(d.hold(c.UID, nil), d.hold(c.UID, devices)...))
}

// ClaimGone applies the deletion of a claim.
func (d *DRA) ClaimGone(uid types.UID) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.derive(d.hold(uid, nil))
}

// HoldsGPU says whether a claim holds a device of one of the drivers.
func (d *DRA) HoldsGPU(c *resourcev1.ResourceClaim) bool { return len(d.devicesOf(c)) > 0 }

// With returns what is known of the nodes on which more devices are allocated than the API told of: by the scheduler
// itself, which writes that only when it binds. Nil = there are none.
func (d *DRA) With(allocated iter.Seq[DRADevice]) map[string]*NodeDRA {
	d.mu.Lock()
	defer d.mu.Unlock()
	var extra []draDevice
	for a := range allocated {
		device := draDevice{draPool{a.Driver, a.Pool}, a.Name}
		if d.Drives(a.Driver) && d.held[device.pool][device.name] == 0 {
			d.count(device, 1)
			extra = append(extra, device)
		}
	}
	if len(extra) == 0 {
		return nil
	}
	out := map[string]*NodeDRA{}
	for _, device := range extra {
		for _, node := range d.nodesOf(device.pool) {
			if _, done := out[node]; !done {
				out[node] = d.nodeDRA(node)
			}
		}
	}
	for _, device := range extra {
		d.count(device, -1)
	}
	return out
}

// devicesOf returns the devices of the drivers that a claim holds. One that was given for looking at only
// (adminAccess) is not held.
func (d *DRA) devicesOf(c *resourcev1.ResourceClaim) []draDevice {
	if d == nil || c.Status.Allocation == nil {
		return nil
	}
	var out []draDevice
	for i := range c.Status.Allocation.Devices.Results {
		r := &c.Status.Allocation.Devices.Results[i]
		if d.Drives(r.Driver) && (r.AdminAccess == nil || !*r.AdminAccess) {
			out = append(out, draDevice{draPool{r.Driver, r.Pool}, r.Device})
		}
	}
	return out
}

// hold makes the devices those of a claim, and returns the nodes of them and of those before. d.mu is held.
func (d *DRA) hold(uid types.UID, devices []draDevice) (nodes []string) {
	for _, device := range d.claims[uid] {
		d.count(device, -1)
		nodes = append(nodes, d.nodesOf(device.pool)...)
	}
	delete(d.claims, uid)
	for _, device := range devices {
		d.count(device, 1)
		nodes = append(nodes, d.nodesOf(device.pool)...)
	}
	if len(devices) > 0 {
		d.claims[uid] = devices
	}
	return nodes
}

// count changes how many claims hold a device. d.mu is held.
func (d *DRA) count(device draDevice, by int) {
	names := d.held[device.pool]
	if names == nil {
		names = map[string]int{}
		d.held[device.pool] = names
	}
	if names[device.name] += by; names[device.name] <= 0 {
		delete(names, device.name)
	}
	if len(names) == 0 {
		delete(d.held, device.pool)
	}
}

func poolOf(s *resourcev1.ResourceSlice) draPool { return draPool{s.Spec.Driver, s.Spec.Pool.Name} }

// dropSlice forgets a slice, and returns the nodes that it was about. d.mu is held.
func (d *DRA) dropSlice(name string) []string {
	s := d.slices[name]
	if s == nil {
		return nil
	}
	nodes := d.nodesOf(poolOf(s))
	delete(d.slices, name)
	if names := d.pools[poolOf(s)]; names.Delete(name).Len() == 0 {
		delete(d.pools, poolOf(s))
	}
	return nodes
}

// nodesOf returns the nodes of a pool: those of its slices, and the one of its name. d.mu is held.
func (d *DRA) nodesOf(pool draPool) []string {
	nodes := []string{pool.name}
	for name := range d.pools[pool] {
		if node := d.slices[name].Spec.NodeName; node != nil && !slices.Contains(nodes, *node) {
			nodes = append(nodes, *node)
		}
	}
	return nodes
}

// derive derives nodes anew and returns them, each once. d.mu is held.
func (d *DRA) derive(nodes []string) []string {
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	for _, node := range nodes {
		before, after := d.OnNode(node), d.nodeDRA(node)
		if after == nil {
			d.nodes.Delete(node)
		} else {
			d.nodes.Store(node, after)
		}
		switch {
		case before.published() && !after.published():
			d.publishing.Add(-1)
		case !before.published() && after.published():
			d.publishing.Add(1)
		}
	}
	return nodes
}

func (n *NodeDRA) published() bool { return n != nil && n.Published }

// nodeDRA derives one node; nil if there is nothing to know of it. d.mu is held.
func (d *DRA) nodeDRA(node string) *NodeDRA {
	n := &NodeDRA{}
	for _, pool := range d.poolsOf(node) {
		names := d.held[pool]
		found := 0
		for slice := range d.pools[pool] {
			s := d.slices[slice]
			mine := s.Spec.NodeName != nil && *s.Spec.NodeName == node
			n.Published = n.Published || mine && len(s.Spec.Devices) > 0
			for i := range s.Spec.Devices {
				if names[s.Spec.Devices[i].Name] == 0 {
					continue
				}
				found++
				if !mine {
					continue // of another node of the pool
				}
				if h := identityOf(s.Spec.Driver, &s.Spec.Devices[i]); h == (heldDevice{}) {
					n.unknown = true
				} else {
					n.held = append(n.held, h)
				}
			}
		}
		// Devices of no slice: it is not known which they are, nor on which node of the pool.
		n.unknown = n.unknown || found < len(names)
	}
	if !n.Published && len(n.held) == 0 && !n.unknown {
		return nil
	}
	return n
}

// poolsOf returns the pools that are about a node. d.mu is held.
func (d *DRA) poolsOf(node string) []draPool {
	var pools []draPool
	for driver := range d.drivers {
		pools = append(pools, draPool{driver, node})
	}
	for pool, names := range d.pools {
		if pool.name == node {
			continue
		}
		for name := range names {
			if n := d.slices[name].Spec.NodeName; n != nil && *n == node {
				pools = append(pools, pool)
				break
			}
		}
	}
	return pools
}

// Attributes by which NVIDIA's driver (sigs.k8s.io/dra-driver-nvidia-gpu) says which device it is, and Kubernetes' own.
const (
	attributeUUID       = "uuid"
	attributeParentUUID = "parentUUID"
	attributePCIBusID   = "resource.kubernetes.io/pciBusID"
)

// identityOf says which GPU or instance a device of a slice is.
func identityOf(driver string, device *resourcev1.Device) (h heldDevice) {
	value := func(name string) string {
		for _, key := range []string{name, driver + "/" + name} { // a name without a domain is the driver's
			if a, ok := device.Attributes[resourcev1.QualifiedName(key)]; ok && a.StringValue != nil {
				return *a.StringValue
			}
		}
		return ""
	}
	parent := value(attributeParentUUID)
	if h.uuid = value(attributeUUID); h.uuid == "" {
		h.uuid = parent
	}
	if parent == "" {
		h.pci = shortBusID(value(attributePCIBusID))
	}
	return h
}

// shortBusID returns a PCI address with the four digits of the domain that Kubernetes writes; the driver writes eight.
func shortBusID(address string) string {
	address = strings.ToLower(address)
	if domain, rest, ok := strings.Cut(address, ":"); ok && len(domain) == 8 {
		return domain[4:] + ":" + rest
	}
	return address
}

// holdsDevice says whether claims hold a device of the node, or the GPU that it is a part of.
func (n *NodeDRA) holdsDevice(uuid, parent, pci string) bool {
	return slices.ContainsFunc(n.held, func(h heldDevice) bool {
		return h.uuid != "" && (h.uuid == uuid || h.uuid == parent) || h.pci != "" && parent == "" && h.pci == pci
	})
}
