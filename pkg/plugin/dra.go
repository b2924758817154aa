// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	dracel "k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/dynamic-resource-allocation/structured"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/gpustate"
)

// selectorCacheSize is how many compiled selectors are kept: there are few classes of devices.
const selectorCacheSize = 64

// watchDRA feeds the tracker with slices and claims, through the informers that the framework has of them anyway.
func (pl *Plugin) watchDRA() error {
	dra := pl.tracker.DRA
	if dra == nil {
		return nil
	}
	informers := pl.handle.SharedInformerFactory().Resource().V1()
	slice := func(obj any) { pl.nodesChanged(dra.SliceSeen(obj.(*resourcev1.ResourceSlice))) }
	if err := pl.handleEvents(informers.ResourceSlices().Informer(), cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, _ bool) { slice(obj) },
		UpdateFunc: func(_, obj any) { slice(obj) },
		DeleteFunc: func(obj any) {
			if s, ok := deleted[*resourcev1.ResourceSlice](obj); ok {
				pl.nodesChanged(dra.SliceGone(s.Name))
			}
		},
	}); err != nil {
		return err
	}
	return pl.handleEvents(informers.ResourceClaims().Informer(), cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, _ bool) { pl.nodesChanged(dra.ClaimSeen(obj.(*resourcev1.ResourceClaim))) },
		UpdateFunc: func(old, obj any) {
			// A claim that was deleted and made again between two events is two claims.
			if o, c := old.(*resourcev1.ResourceClaim), obj.(*resourcev1.ResourceClaim); o.UID != c.UID {
				pl.nodesChanged(dra.ClaimGone(o.UID))
			}
			pl.nodesChanged(dra.ClaimSeen(obj.(*resourcev1.ResourceClaim)))
		},
		DeleteFunc: func(obj any) {
			if c, ok := deleted[*resourcev1.ResourceClaim](obj); ok {
				pl.nodesChanged(dra.ClaimGone(c.UID))
			}
		},
	})
}

func (pl *Plugin) nodesChanged(nodes []string) {
	for _, node := range nodes {
		pl.nodeChanged(node)
	}
}

// viewer returns a viewer for one cycle. It knows of the claims that this scheduler is about to allocate too: their
// allocation is written only when their pods are bound.
func (pl *Plugin) viewer() (*gpustate.Viewer, error) {
	v := pl.tracker.Viewer()
	if !pl.tracker.DRA.Publishes() {
		return v, nil
	}
	state, err := pl.allocatedDevices()
	if err != nil {
		return nil, err
	}
	v.DRAAhead = pl.tracker.DRA.With(func(yield func(gpustate.DRADevice) bool) {
		for id := range state.AllocatedDevices {
			if !yield(gpustate.DRADevice{Driver: id.Driver.String(), Pool: id.Pool.String(), Name: id.Device.String()}) {
				return
			}
		}
		for id := range state.AllocatedSharedDeviceIDs {
			if !yield(gpustate.DRADevice{Driver: id.Driver.String(), Pool: id.Pool.String(), Name: id.Device.String()}) {
				return
			}
		}
	})
	for node := range v.DRAAhead {
		pl.timers.at("dra/"+node, pl.clock.Now().Add(aheadRetry), func() { pl.nodeChanged(node) })
	}
	return v, nil
}

// aheadRetry is when a node is looked at again on which the framework holds more for claims than the API told. No event
// may come: an allocation that is given up was never written, and of a claim that is gone the framework may hear later
// than the tracker does.
const aheadRetry = time.Second

// allocatedTries is how often the framework is asked for what is allocated, which fails while that changes.
const allocatedTries = 20

// allocatedDevices returns what is allocated to claims, in the API or by this scheduler. (The list of claims does not have
// the latter, nor the claims that are yet to be made for extended resources.)
func (pl *Plugin) allocatedDevices() (state *structured.AllocatedState, err error) {
	for range allocatedTries {
		if state, err = pl.handle.SharedDRAManager().ResourceClaims().GatherAllocatedState(); err == nil {
			return state, nil
		}
	}
	return nil, fmt.Errorf("which devices claims hold: %w", err)
}

// claimsGPU says whether a pod would get GPUs of a device plugin; or of a DRA driver: by a claim that has one, or that one
// could satisfy, or by an extended resource that the driver serves. A claim may be for something else, such as a NIC. One that does not exist
// yet is not judged: the pod waits for it.
func (pl *Plugin) claimsGPU(ctx context.Context, pod *corev1.Pod) (bool, error) {
	if pl.tracker.Policy.RequestsGPUs(pod) {
		return true, nil // by a name that the admin gave; those that are known anyway are refused before
	}
	if pl.tracker.DRA == nil {
		return false, nil
	}
	claims, err := pl.resourceClaimsOf(pod)
	if err != nil {
		return false, err
	}
	for _, claim := range claims {
		if pl.tracker.DRA.HoldsGPU(claim) {
			return true, nil
		}
		for i := range claim.Spec.Devices.Requests {
			if gpu, err := pl.asksForGPU(ctx, &claim.Spec.Devices.Requests[i]); gpu || err != nil {
				return gpu, err
			}
		}
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for name, q := range containers[i].Resources.Limits {
				class := pl.handle.SharedDRAManager().DeviceClassResolver().GetDeviceClass(name)
				if class == nil || q.Sign() <= 0 {
					continue
				}
				if gpu, err := pl.selectsGPU(ctx, class.Name, nil); gpu || err != nil {
					return gpu, err
				}
			}
		}
	}
	return false, nil
}

// holdsGPU says whether a claim of the pod holds a GPU.
func (pl *Plugin) holdsGPU(pod *corev1.Pod) (bool, error) {
	if pl.tracker.DRA == nil {
		return false, nil
	}
	claims, err := pl.resourceClaimsOf(pod)
	for _, claim := range claims {
		if pl.tracker.DRA.HoldsGPU(claim) {
			return true, nil
		}
	}
	return false, err
}

// resourceClaimsOf returns the claims of a pod that exist.
func (pl *Plugin) resourceClaimsOf(pod *corev1.Pod) ([]*resourcev1.ResourceClaim, error) {
	var claims []*resourcev1.ResourceClaim
	for i := range pod.Spec.ResourceClaims {
		name, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil || name == nil {
			continue // not made yet, or none is needed
		}
		claim, err := pl.handle.SharedDRAManager().ResourceClaims().Get(pod.Namespace, *name)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("claim %s: %w", *name, err)
		default:
			claims = append(claims, claim)
		}
	}
	return claims, nil
}

// asksForGPU says whether a GPU of one of the drivers could satisfy a request of a claim.
func (pl *Plugin) asksForGPU(ctx context.Context, r *resourcev1.DeviceRequest) (bool, error) {
	if r.Exactly != nil && (r.Exactly.AdminAccess == nil || !*r.Exactly.AdminAccess) {
		return pl.selectsGPU(ctx, r.Exactly.DeviceClassName, r.Exactly.Selectors)
	}
	for i := range r.FirstAvailable {
		if gpu, err := pl.selectsGPU(ctx, r.FirstAvailable[i].DeviceClassName, r.FirstAvailable[i].Selectors); gpu || err != nil {
			return gpu, err
		}
	}
	return false, nil
}

// selectsGPU says whether a class and further selectors select any device that one of the drivers publishes.
func (pl *Plugin) selectsGPU(ctx context.Context, className string, selectors []resourcev1.DeviceSelector) (bool, error) {
	if !pl.tracker.DRA.Publishes() {
		return false, nil
	}
	manager := pl.handle.SharedDRAManager()
	class, err := manager.DeviceClasses().Get(className)
	if apierrors.IsNotFound(err) {
		return false, nil // nothing is allocated without it
	}
	if err != nil {
		return false, fmt.Errorf("device class %s: %w", className, err)
	}
	slices, err := manager.ResourceSlices().ListWithDeviceTaintRules()
	if err != nil {
		return false, fmt.Errorf("listing resource slices: %w", err)
	}
	inClass := map[string]bool{}
	for _, s := range slices {
		if !pl.tracker.DRA.Drives(s.Spec.Driver) {
			continue
		}
		for i := range s.Spec.Devices {
			device := &s.Spec.Devices[i]
			kind := kindOf(s.Spec.Driver, device)
			in, judged := inClass[kind]
			if !judged {
				in = pl.selects(ctx, class.Spec.Selectors, s.Spec.Driver, device)
				inClass[kind] = in
			}
			if in && pl.selects(ctx, selectors, s.Spec.Driver, device) {
				return true, nil
			}
		}
	}
	return false, nil
}

// kindOf names what devices of a driver have in common for a class. A class that tells them apart by anything else than
// their kind, product or profile is judged by the first of them, and else by what is allocated in the end: see holdsGPU.
func kindOf(driver string, device *resourcev1.Device) string {
	kind := driver
	for _, name := range []resourcev1.QualifiedName{"type", "productName", "profile"} {
		if a := device.Attributes[name].StringValue; a != nil {
			kind += "/" + *a
		}
	}
	return kind
}

// selects says whether all selectors select a device. One that fails on it selects it not, as for the allocator.
func (pl *Plugin) selects(ctx context.Context, selectors []resourcev1.DeviceSelector, driver string, device *resourcev1.Device) bool {
	for i := range selectors {
		if selectors[i].CEL == nil {
			return false
		}
		compiled := pl.selectors.GetOrCompile(selectors[i].CEL.Expression)
		if compiled.Error != nil {
			return false
		}
		matches, _, err := compiled.DeviceMatches(ctx, dracel.Device{
			Driver: driver, AllowMultipleAllocations: device.AllowMultipleAllocations,
			Attributes: device.Attributes, Capacity: device.Capacity,
		})
		if err != nil {
			klog.FromContext(ctx).V(5).Info("Selector failed", "device", device.Name, "err", err)
		}
		if err != nil || !matches {
			return false
		}
	}
	return true
}
