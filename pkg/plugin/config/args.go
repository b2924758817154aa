// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/plugin/policies"
)

// Args are the arguments of the plugin, BerthArgs in the pluginConfig of a KubeSchedulerConfiguration. A field that
// is absent has its default.
type Args struct {
	metav1.TypeMeta `json:",inline"`

	// Headroom is kept free on every device, beside what the driver reserves. Default 256Mi.
	Headroom *resource.Quantity `json:"headroom,omitempty"`
	// StaleAfter is how long a node's agent may be silent before the node gets no new pods. Default 60s; 0s = for ever.
	StaleAfter *metav1.Duration `json:"staleAfter,omitempty"`
	// LoadTimeout is how long a pod counts as loading after its first start, if it does not become Ready before.
	// Default 15m.
	LoadTimeout *metav1.Duration `json:"loadTimeout,omitempty"`
	// MaxMinRuntime caps berth.dev/min-runtime. Default 1h.
	MaxMinRuntime *metav1.Duration `json:"maxMinRuntime,omitempty"`
	// MemoryReturnTimeout is how long after its victims are gone a pod waits for their memory before another way is
	// tried. Default 2m.
	MemoryReturnTimeout *metav1.Duration `json:"memoryReturnTimeout,omitempty"`
	// WaitBeforeEviction is how soon memory must come back for a pod to wait for it rather than to evict others elsewhere.
	// Default 30s.
	WaitBeforeEviction *metav1.Duration `json:"waitBeforeEviction,omitempty"`
	// PreemptionDelay is how long after a pod was refused first others may be evicted for it; until then it is nominated to no
	// node for that, so that an autoscaler can add one. Default 0s.
	PreemptionDelay *metav1.Duration `json:"preemptionDelay,omitempty"`
	// EvictOtherSchedulers lets pods of other schedulers be evicted that did not opt in by berth.dev/evictable. Default
	// false.
	EvictOtherSchedulers bool `json:"evictOtherSchedulers,omitempty"`
	// BindTimeout is how long a Binding request may take, once it is sent. Under a leader election it is at most
	// leaseDuration - 2 * retryPeriod - 1s. Default 4s.
	BindTimeout *metav1.Duration `json:"bindTimeout,omitempty"`
	// Strategy is MostAllocated (tightest fit, the default), LeastAllocated (spread) or Fragmentation (leaves most for what else is
	// asked for).
	Strategy alloc.Strategy `json:"strategy,omitempty"`
	// WarmWeight is how much it counts that what a pod loads was loaded on a node before, and on which of its GPUs, 0 to 100.
	// Default 1; 0 = not at all.
	WarmWeight *int32 `json:"warmWeight,omitempty"`
	// DRADrivers are the drivers of dynamic resource allocation whose devices are the GPUs that Berth books too: what a
	// claim holds is not booked, and a node that has some gets no pods unless labelled. Default [gpu.nvidia.com]; an empty
	// list = none.
	DRADrivers *[]string `json:"draDrivers,omitempty"`
	// GPUResources are the names of extended resources that are GPUs too, beside those below nvidia.com/. Default none.
	GPUResources []string `json:"gpuResources,omitempty"`
	// TrustObservedPeaks books, for a model that was measured before with the same settings, the measured peak alone
	// instead of the larger of peak and estimate. Default false.
	TrustObservedPeaks bool `json:"trustObservedPeaks,omitempty"`
	// EvictForDriverUpgrades evicts Berth's pods from nodes whose driver is to be replaced, as the label
	// nvidia.com/gpu-driver-upgrade-state says, within their PodDisruptionBudgets. Default false.
	EvictForDriverUpgrades bool `json:"evictForDriverUpgrades,omitempty"`
	// Enforcement is who holds containers to the GPU memory that is booked for them, on nodes that say they do: None (the
	// default), NVIDIAToolkit (the NVIDIA container toolkit 1.20.1 and later) or NVIDIAGPUSharing (kai-gpu-fractioning).
	Enforcement berthv1alpha1.Enforcement `json:"enforcement,omitempty"`
	// OnDeviceLost is what becomes of pods whose GPU fails or vanishes: Ignore (they are told; the default) or Evict. A pod can
	// say otherwise by berth.dev/on-device-lost.
	OnDeviceLost berthv1alpha1.FaultAction `json:"onDeviceLost,omitempty"`
	// DeviceLostGrace is for how long the GPU must have been lost until then, while its agent reports. Default 5m.
	DeviceLostGrace *metav1.Duration `json:"deviceLostGrace,omitempty"`
	// OnOveruse is what becomes of pods that hold more GPU memory than they booked: Event (they are told; the default) or Evict.
	// A pod can say otherwise by berth.dev/on-overuse.
	OnOveruse berthv1alpha1.FaultAction `json:"onOveruse,omitempty"`
	// PolicyCheckInterval is the time between two checks of the admission policies that Berth relies on. Default 5m; 0s = they
	// are not checked.
	PolicyCheckInterval *metav1.Duration `json:"policyCheckInterval,omitempty"`
	// OnMissingPolicies is what happens while one is not known to be in force: Report (it is told, and nothing else; the
	// default) or StopPlacing (pods that ask for GPU memory wait until all are).
	OnMissingPolicies OnMissingPolicies `json:"onMissingPolicies,omitempty"`
	// PoliciesLeftOut are policies that are not installed on purpose, and not checked. Default none.
	PoliciesLeftOut []string `json:"policiesLeftOut,omitempty"`
	// GPUMemoryResource says that nodes advertise their GPU memory as the resource berth.dev/gpu-memory, by the controller's
	// flag --gpu-memory-resource: a pod for which there is enough in sum on a node, and no GPU, is told so, for autoscalers see
	// the sum. Whatever it says, a node that lists the resource gets no more pods than its kubelet takes. Default false.
	GPUMemoryResource bool `json:"gpuMemoryResource,omitempty"`
	// PerNodeMetrics adds metrics of the GPU memory of each node to those of the fleet. Default false.
	PerNodeMetrics bool `json:"perNodeMetrics,omitempty"`
}

// OnMissingPolicies says what happens while admission policies are not known to be in force.
type OnMissingPolicies string

const (
	Report      OnMissingPolicies = "Report"
	StopPlacing OnMissingPolicies = "StopPlacing"
)

// Limits says whether somebody holds containers to what is booked, on some nodes.
func (a *Args) Limits() bool {
	return a.Enforcement == berthv1alpha1.EnforcementToolkit || a.Enforcement == berthv1alpha1.EnforcementGPUSharing
}

// SetDefaults sets what is absent.
func (a *Args) SetDefaults() {
	if a.Headroom == nil {
		a.Headroom = resource.NewQuantity(256<<20, resource.BinarySI)
	}
	for _, d := range []struct {
		field **metav1.Duration
		value time.Duration
	}{
		{&a.StaleAfter, 60 * time.Second},
		{&a.LoadTimeout, 15 * time.Minute},
		{&a.MaxMinRuntime, time.Hour},
		{&a.MemoryReturnTimeout, 2 * time.Minute},
		{&a.WaitBeforeEviction, 30 * time.Second},
		{&a.PreemptionDelay, 0},
		{&a.BindTimeout, 4 * time.Second},
		{&a.DeviceLostGrace, 5 * time.Minute},
		{&a.PolicyCheckInterval, 5 * time.Minute},
	} {
		if *d.field == nil {
			*d.field = &metav1.Duration{Duration: d.value}
		}
	}
	if a.Strategy == "" {
		a.Strategy = alloc.MostAllocated
	}
	if a.WarmWeight == nil {
		a.WarmWeight = ptr.To[int32](1)
	}
	if a.Enforcement == "" {
		a.Enforcement = berthv1alpha1.EnforcementNone
	}
	if a.OnDeviceLost == "" {
		a.OnDeviceLost = berthv1alpha1.ActionIgnore
	}
	if a.OnOveruse == "" {
		a.OnOveruse = berthv1alpha1.ActionEvent
	}
	if a.OnMissingPolicies == "" {
		a.OnMissingPolicies = Report
	}
	if a.DRADrivers == nil {
		a.DRADrivers = &[]string{"gpu.nvidia.com"}
	}
}

// Validate returns what is wrong with the arguments, defaults applied.
func (a *Args) Validate() error {
	var errs field.ErrorList
	if a.Headroom.Sign() < 0 {
		errs = append(errs, field.Invalid(field.NewPath("headroom"), a.Headroom.String(), "must not be negative"))
	}
	for _, d := range []struct {
		name  string
		value *metav1.Duration
		least time.Duration
	}{
		{"staleAfter", a.StaleAfter, 0},
		{"loadTimeout", a.LoadTimeout, time.Second},
		{"maxMinRuntime", a.MaxMinRuntime, 0},
		{"memoryReturnTimeout", a.MemoryReturnTimeout, time.Second},
		{"waitBeforeEviction", a.WaitBeforeEviction, 0},
		{"preemptionDelay", a.PreemptionDelay, 0},
		{"bindTimeout", a.BindTimeout, 100 * time.Millisecond},
		{"policyCheckInterval", a.PolicyCheckInterval, 0},
		{"deviceLostGrace", a.DeviceLostGrace, 0},
	} {
		if d.value.Duration < d.least {
			errs = append(errs, field.Invalid(field.NewPath(d.name), d.value.Duration.String(), "must be at least "+d.least.String()))
		}
	}
	if d := a.StaleAfter.Duration; d > 0 && d < 15*time.Second {
		errs = append(errs, field.Invalid(field.NewPath("staleAfter"), d.String(),
			"agents renew their Lease every 10s: must be 0s (never stale) or at least 15s"))
	}
	for i, driver := range *a.DRADrivers {
		for _, msg := range validation.IsDNS1123Subdomain(driver) {
			errs = append(errs, field.Invalid(field.NewPath("draDrivers").Index(i), driver, msg))
		}
	}
	for i, name := range a.GPUResources {
		for _, msg := range validation.IsQualifiedName(name) {
			errs = append(errs, field.Invalid(field.NewPath("gpuResources").Index(i), name, msg))
		}
	}
	for _, f := range []struct {
		name   string
		action berthv1alpha1.FaultAction
		leave  berthv1alpha1.FaultAction
	}{
		{"onDeviceLost", a.OnDeviceLost, berthv1alpha1.ActionIgnore}, {"onOveruse", a.OnOveruse, berthv1alpha1.ActionEvent},
	} {
		if known := []berthv1alpha1.FaultAction{f.leave, berthv1alpha1.ActionEvict}; !slices.Contains(known, f.action) {
			errs = append(errs, field.NotSupported(field.NewPath(f.name), f.action, known))
		}
	}
	errs = append(errs, a.validatePolicies()...)
	if !slices.Contains(alloc.Strategies, a.Strategy) {
		errs = append(errs, field.NotSupported(field.NewPath("strategy"), a.Strategy, alloc.Strategies))
	}
	if w := *a.WarmWeight; w < 0 || w > 100 {
		errs = append(errs, field.Invalid(field.NewPath("warmWeight"), w, "must be 0 to 100"))
	}
	switch a.Enforcement {
	case berthv1alpha1.EnforcementNone, berthv1alpha1.EnforcementToolkit, berthv1alpha1.EnforcementGPUSharing:
	default:
		errs = append(errs, field.NotSupported(field.NewPath("enforcement"), a.Enforcement, []berthv1alpha1.Enforcement{
			berthv1alpha1.EnforcementNone, berthv1alpha1.EnforcementToolkit, berthv1alpha1.EnforcementGPUSharing,
		}))
	}
	return errs.ToAggregate()
}

func (a *Args) validatePolicies() (errs field.ErrorList) {
	if d := a.PolicyCheckInterval.Duration; d > 0 && d < time.Second {
		errs = append(errs, field.Invalid(field.NewPath("policyCheckInterval"), d.String(), "must be 0s (never) or at least 1s"))
	}
	switch a.OnMissingPolicies {
	case Report:
	case StopPlacing:
		if a.PolicyCheckInterval.Duration == 0 {
			errs = append(errs, field.Invalid(field.NewPath("onMissingPolicies"), a.OnMissingPolicies, "needs a policyCheckInterval above 0s"))
		}
	default:
		errs = append(errs, field.NotSupported(field.NewPath("onMissingPolicies"), a.OnMissingPolicies, []OnMissingPolicies{Report, StopPlacing}))
	}
	for i, name := range a.PoliciesLeftOut {
		if !slices.Contains(policies.Names(), name) {
			errs = append(errs, field.NotSupported(field.NewPath("policiesLeftOut").Index(i), name, policies.Names()))
		}
	}
	return errs
}

// Decode reads the arguments strictly: a misspelt field is an error. obj is nil when the profile has no
// pluginConfig for Berth, and *runtime.Unknown when it has, since the kind is not in the scheduler's scheme.
func Decode(obj runtime.Object) (*Args, error) {
	args := &Args{}
	switch o := obj.(type) {
	case nil:
	case *runtime.Unknown:
		decoder := json.NewDecoder(bytes.NewReader(o.Raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(args); err != nil {
			return nil, fmt.Errorf("decoding %sArgs: %w", Name, err)
		}
	default:
		return nil, fmt.Errorf("want args to be of type %sArgs, got %T", Name, obj)
	}
	if args.Kind != "" && args.Kind != Name+"Args" {
		return nil, fmt.Errorf("want args of kind %sArgs, got %s", Name, args.Kind)
	}
	args.SetDefaults()
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("invalid %sArgs: %w", Name, err)
	}
	return args, nil
}
