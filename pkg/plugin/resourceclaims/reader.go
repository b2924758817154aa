// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package resourceclaims finds out which GPUs pods get, or would get, by claims of dynamic resource allocation: through
// the scheduler framework, which knows of allocations before the API does.
package resourceclaims

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	dracel "k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/dynamic-resource-allocation/structured"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-dev/berth/pkg/gpustate"
)

// selectorCacheSize is how many compiled selectors are kept: there are few classes of devices.
const selectorCacheSize = 64

// Reader reads claims. A nil reader finds none.
type Reader struct {
	manager fwk.SharedDRAManager
	dra     *gpustate.DRA
	// selectors are compiled selectors of devices.
	selectors *dracel.Cache
}

// NewReader returns a reader of the framework's claims; dra says which of their devices are GPUs.
func NewReader(manager fwk.SharedDRAManager, dra *gpustate.DRA) *Reader {
	return &Reader{manager: manager, dra: dra, selectors: dracel.NewCache(selectorCacheSize, dracel.Features{
		EnableConsumableCapacity: true, EnableListTypeAttributes: true,
	})}
}

// Ahead returns what is known of the nodes on which the framework has allocated more to claims than the API told: an
// allocation is written only when its pod is bound.
func (r *Reader) Ahead() (map[string]*gpustate.NodeDRA, error) {
	if r == nil || !r.dra.Publishes() {
		return nil, nil
	}
	state, err := r.allocatedDevices()
	if err != nil {
		return nil, err
	}
	return r.dra.With(func(yield func(gpustate.DRADevice) bool) {
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
	}), nil
}

// allocatedTries is how often the framework is asked for what is allocated, which fails while that changes.
const allocatedTries = 20

// allocatedDevices returns what is allocated to claims, in the API or by this scheduler. (The list of claims does not have
// the latter, nor the claims that are yet to be made for extended resources.)
func (r *Reader) allocatedDevices() (state *structured.AllocatedState, err error) {
	for range allocatedTries {
		if state, err = r.manager.ResourceClaims().GatherAllocatedState(); err == nil {
			return state, nil
		}
	}
	return nil, fmt.Errorf("which devices claims hold: %w", err)
}

// AskForGPU says whether a pod would get GPUs of a DRA driver: by a claim that has one, or that one could satisfy, or by an
// extended resource that the driver serves. A claim may be for something else, such as a NIC. One that does not exist yet
// is not judged: the pod waits for it.
func (r *Reader) AskForGPU(ctx context.Context, pod *corev1.Pod) (bool, error) {
	if r == nil {
		return false, nil
	}
	claims, err := r.of(pod)
	if err != nil {
		return false, err
	}
	for _, claim := range claims {
		if r.dra.HoldsGPU(claim) {
			return true, nil
		}
		for i := range claim.Spec.Devices.Requests {
			if gpu, err := r.asksForGPU(ctx, &claim.Spec.Devices.Requests[i]); gpu || err != nil {
				return gpu, err
			}
		}
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			for name, q := range containers[i].Resources.Limits {
				class := r.manager.DeviceClassResolver().GetDeviceClass(name)
				if class == nil || q.Sign() <= 0 {
					continue
				}
				if gpu, err := r.selectsGPU(ctx, class.Name, nil); gpu || err != nil {
					return gpu, err
				}
			}
		}
	}
	return false, nil
}

// HoldGPU says whether a claim of the pod holds a GPU.
func (r *Reader) HoldGPU(pod *corev1.Pod) (bool, error) {
	if r == nil {
		return false, nil
	}
	claims, err := r.of(pod)
	for _, claim := range claims {
		if r.dra.HoldsGPU(claim) {
			return true, nil
		}
	}
	return false, err
}

// of returns the claims of a pod that exist.
func (r *Reader) of(pod *corev1.Pod) ([]*resourcev1.ResourceClaim, error) {
	var claims []*resourcev1.ResourceClaim
	for i := range pod.Spec.ResourceClaims {
		name, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil || name == nil {
			continue // not made yet, or none is needed
		}
		claim, err := r.manager.ResourceClaims().Get(pod.Namespace, *name)
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
func (r *Reader) asksForGPU(ctx context.Context, request *resourcev1.DeviceRequest) (bool, error) {
	if request.Exactly != nil && (request.Exactly.AdminAccess == nil || !*request.Exactly.AdminAccess) {
		return r.selectsGPU(ctx, request.Exactly.DeviceClassName, request.Exactly.Selectors)
	}
	for i := range request.FirstAvailable {
		if gpu, err := r.selectsGPU(ctx, request.FirstAvailable[i].DeviceClassName, request.FirstAvailable[i].Selectors); gpu || err != nil {
			return gpu, err
		}
	}
	return false, nil
}

// selectsGPU says whether a class and further selectors select any device that one of the drivers publishes.
func (r *Reader) selectsGPU(ctx context.Context, className string, selectors []resourcev1.DeviceSelector) (bool, error) {
	if !r.dra.Publishes() {
		return false, nil
	}
	manager := r.manager
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
		if !r.dra.Drives(s.Spec.Driver) {
			continue
		}
		for i := range s.Spec.Devices {
			device := &s.Spec.Devices[i]
			kind := kindOf(s.Spec.Driver, device)
			in, judged := inClass[kind]
			if !judged {
				in = r.selects(ctx, class.Spec.Selectors, s.Spec.Driver, device)
				inClass[kind] = in
			}
			if in && r.selects(ctx, selectors, s.Spec.Driver, device) {
				return true, nil
			}
		}
	}
	return false, nil
}

// kindOf names what devices of a driver have in common for a class. A class that tells them apart by anything else than
// their kind, product or profile is judged by the first of them, and else by what is allocated in the end: see HoldGPU.
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
func (r *Reader) selects(ctx context.Context, selectors []resourcev1.DeviceSelector, driver string, device *resourcev1.Device) bool {
	for i := range selectors {
		if selectors[i].CEL == nil {
			return false
		}
		compiled := r.selectors.GetOrCompile(selectors[i].CEL.Expression)
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
