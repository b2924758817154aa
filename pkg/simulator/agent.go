// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/gpustate"
)

const (
	// renewal is how often an agent renews its Lease, and aliveFor how old a renewal may be of one that is alive.
	renewal  = 10 * time.Second
	aliveFor = 3 * renewal
)

// agent is the agents of all nodes: it reports what pods take and leave, and renews the Leases of those that were alive
// when the snapshot was taken.
type agent struct {
	world *world
	// alive are the names of their Leases, and renewed is when they were last renewed.
	alive   []string
	renewed time.Time
}

// takeOver finds out whose agents are alive.
func (a *agent) takeOver() {
	a.renewed = a.world.clock.Now()
	for _, lease := range all[*coordinationv1.Lease](a.world) {
		if t := lease.Spec.RenewTime; t != nil && a.renewed.Sub(t.Time) <= aliveFor {
			a.alive = append(a.alive, lease.Name)
		}
	}
}

// renew renews the Leases if it is time.
func (a *agent) renew() error {
	now := a.world.clock.Now()
	if now.Sub(a.renewed) < renewal {
		return nil
	}
	a.renewed = now
	for _, name := range a.alive {
		lease, ok := find[*coordinationv1.Lease](a.world, berthv1alpha1.Namespace, name)
		if !ok {
			continue
		}
		lease = lease.DeepCopy()
		at := metav1.NewMicroTime(now)
		lease.Spec.RenewTime = &at
		if err := a.world.put(lease); err != nil {
			return err
		}
	}
	return nil
}

// silent says whether the agent of a node was not alive when the snapshot was taken.
func (a *agent) silent(node string) bool {
	_, has := find[*coordinationv1.Lease](a.world, berthv1alpha1.Namespace, node)
	return has && !slices.Contains(a.alive, node)
}

// started reports the memory of a pod: as much as is booked.
func (a *agent) started(pod *corev1.Pod) error {
	allocation, err := gpustate.BookingOf(pod)
	if err != nil || allocation == nil {
		return nil // it holds no GPU memory that anybody knows of
	}
	return a.report(pod.Spec.NodeName, func(status *berthv1alpha1.GPUNodeStatus) (changed bool) {
		for _, share := range allocation.Devices {
			for i := range status.Devices {
				d := &status.Devices[i]
				if d.UUID != share.UUID || holds(d, pod) {
					continue
				}
				memory := *resource.NewQuantity(int64(share.Memory.Uint64()), resource.BinarySI)
				d.Processes = append(d.Processes, berthv1alpha1.GPUProcess{PodUID: pod.UID, Memory: memory, Active: true})
				d.Memory.Used.Add(memory)
				changed = true
			}
		}
		return changed
	})
}

func holds(d *berthv1alpha1.GPUDevice, pod *corev1.Pod) bool {
	return slices.ContainsFunc(d.Processes, func(p berthv1alpha1.GPUProcess) bool { return p.PodUID == pod.UID })
}

// ended reports that the memory of a pod is back.
func (a *agent) ended(pod *corev1.Pod) error {
	return a.report(pod.Spec.NodeName, func(status *berthv1alpha1.GPUNodeStatus) bool { return release(status, pod.UID) })
}

// release takes what a pod holds off a report. It says whether it held anything.
func release(status *berthv1alpha1.GPUNodeStatus, pod types.UID) (held bool) {
	for i := range status.Devices {
		d := &status.Devices[i]
		d.Processes = slices.DeleteFunc(d.Processes, func(p berthv1alpha1.GPUProcess) bool {
			if p.PodUID != pod {
				return false
			}
			held = true
			d.Memory.Used.Sub(p.Memory)
			if d.Memory.Used.Sign() < 0 {
				d.Memory.Used = resource.Quantity{}
			}
			return true
		})
		if d.AssignedTo != pod && !slices.Contains(d.AssignedPods, pod) {
			continue
		}
		held, d.AssignedTo = true, ""
		d.AssignedPods = slices.DeleteFunc(d.AssignedPods, func(uid types.UID) bool { return uid == pod })
		if len(d.AssignedPods) > 0 {
			d.AssignedTo = d.AssignedPods[0]
		}
	}
	return held
}

// report writes a changed report of a node. An agent that is silent reports nothing.
func (a *agent) report(node string, change func(*berthv1alpha1.GPUNodeStatus) (changed bool)) error {
	o, ok := find[*gpunode.Object](a.world, "", node)
	if !ok || o.Status == nil || a.silent(node) {
		return nil
	}
	next := o.DeepCopyObject().(*gpunode.Object)
	if !change(next.Status) {
		return nil
	}
	next.Status.ObservedTime = metav1.NewTime(a.world.clock.Now())
	return a.world.put(next)
}
