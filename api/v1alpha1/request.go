// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/berth-dev/berth/internal/redact"
)

// requestKeys are the annotations that a user writes, in the order in which mistakes are reported.
var requestKeys = []string{
	AnnotationGPUMemory, AnnotationModel, AnnotationRuntime, AnnotationGPUCount, AnnotationContextLength,
	AnnotationParallel, AnnotationKVCacheType, AnnotationIdleAfter, AnnotationMinRuntime, AnnotationContainer,
	AnnotationGPUSharing, AnnotationOnDeviceLost, AnnotationOnOveruse,
}

// allocationKeys are the annotations that the scheduler writes.
var allocationKeys = []string{
	AnnotationAllocation, AnnotationGPUUUIDs, AnnotationVisibleDevices, AnnotationTensorParallelSize,
	AnnotationGPUMemoryUtilization, AnnotationTensorSplit, AnnotationMemFractionStatic, AnnotationFreeGPUMemoryFraction,
	AnnotationGPUMemoryLimit, AnnotationBoundBy,
}

// keyPrefix is what all keys of Berth start with.
const keyPrefix = GroupName + "/"

// ParsePodRequest returns what the pod asks for, or nil if it asks for no GPU memory. It is the only reader of the
// request annotations and of the resource; the admission policies in manifests/policies refuse the same mistakes, earlier. The error
// is a field.ErrorList's aggregate: it names every mistake, with the corrected form where there is one. Allocation
// annotations, which the scheduler writes, are not looked at.
func ParsePodRequest(pod *corev1.Pod) (*PodRequest, error) {
	path := field.NewPath("metadata", "annotations")
	p := parser{pod: pod, path: path}
	if !p.hasRequest() {
		return nil, p.errs.ToAggregate()
	}
	r := p.parse()
	p.checkPod()
	if len(p.errs) > 0 {
		return nil, p.errs.ToAggregate()
	}
	return r, nil
}

// AsksForGPUMemory says whether a pod asks for GPU memory at all, be it in a way that ParsePodRequest refuses.
func AsksForGPUMemory(pod *corev1.Pod) bool {
	_, hasMemory := pod.Annotations[AnnotationGPUMemory]
	_, hasModel := pod.Annotations[AnnotationModel]
	return hasMemory || hasModel || AsksByResource(pod)
}

// IsEvictable says whether a pod of another scheduler lets Berth evict it.
func IsEvictable(pod *corev1.Pod) bool { return pod.Annotations[AnnotationEvictable] == "true" }

// parser collects the mistakes of one pod.
type parser struct {
	pod  *corev1.Pod
	path *field.Path
	errs field.ErrorList
}

func (p *parser) invalid(key string, err error) {
	shown := p.pod.Annotations[key]
	if key == AnnotationModel {
		shown = redact.URI(shown)
	}
	p.errs = append(p.errs, field.Invalid(p.path.Key(key), shown, err.Error()))
}

func (p *parser) forbidden(key, detail string) {
	p.errs = append(p.errs, field.Forbidden(p.path.Key(key), detail))
}

// hasRequest says whether the pod has a request, and reports keys that are none of ours: a misspelt request must not become
// a pod without one.
func (p *parser) hasRequest() bool {
	found := AsksByResource(p.pod)
	var unknown []string
	for key := range p.pod.Annotations {
		switch {
		case !isOurs(key) || slices.Contains(allocationKeys, key) || key == AnnotationEvictable:
		case slices.Contains(requestKeys, key):
			found = true
		default:
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	for _, key := range unknown {
		p.forbidden(key, unknownKeyDetail(key))
	}
	for _, key := range requestKeys {
		if _, ok := p.pod.Labels[key]; ok {
			p.errs = append(p.errs, field.Forbidden(field.NewPath("metadata", "labels").Key(key),
				"it is an annotation, not a label"))
		}
	}
	return found
}

// isOurs says whether a key has the prefix of Berth's. The apiserver takes capitals in the prefix of an annotation: such a
// key is a misspelt one.
func isOurs(key string) bool {
	return len(key) >= len(keyPrefix) && strings.EqualFold(key[:len(keyPrefix)], keyPrefix)
}

// value parses one annotation with parse, if it is there.
func value[T any](p *parser, key string, parse func(string) (T, error)) (v T) {
	s, ok := p.pod.Annotations[key]
	if !ok {
		return v
	}
	v, err := parse(s)
	if err != nil {
		p.invalid(key, err)
	}
	return v
}

func (p *parser) parse() *PodRequest {
	before := len(p.errs)
	r := &PodRequest{
		TotalMemory:   value(p, AnnotationGPUMemory, parseGPUMemory),
		Model:         value(p, AnnotationModel, parseModel),
		Runtime:       value(p, AnnotationRuntime, parseRuntime),
		GPUCounts:     value(p, AnnotationGPUCount, parseGPUCounts),
		ContextLength: value(p, AnnotationContextLength, parseContextLength),
		Parallel:      value(p, AnnotationParallel, parseParallel),
		KVCacheType:   value(p, AnnotationKVCacheType, parseKVCacheType),
		IdleAfter:     value(p, AnnotationIdleAfter, parseDuration),
		MinRuntime:    value(p, AnnotationMinRuntime, parseDuration),
		Sharing:       value(p, AnnotationGPUSharing, parseSharing),
		OnDeviceLost:  value(p, AnnotationOnDeviceLost, parseOnDeviceLost),
		OnOveruse:     value(p, AnnotationOnOveruse, parseOnOveruse),
	}
	if r.Runtime == "" {
		r.Runtime = RuntimeCustom
	}
	if names, ok := p.pod.Annotations[AnnotationContainer]; ok {
		r.Containers = strings.Split(names, ",")
	}
	p.readResource(r)
	if len(p.errs) == before {
		p.completeCounts(r)
	}
	return r
}

// completeCounts checks that totals given per count and gpu-count name the same counts, and takes the counts from
// the totals when gpu-count is absent.
func (p *parser) completeCounts(r *PodRequest) {
	if _, one := r.TotalMemory[0]; one || r.TotalMemory == nil {
		return
	}
	counts := slices.Sorted(maps.Keys(r.TotalMemory))
	if r.GPUCounts == nil {
		r.GPUCounts = counts
		return
	}
	if !slices.Equal(counts, r.GPUCounts) {
		p.forbidden(AnnotationGPUCount, "it must name the same counts as "+AnnotationGPUMemory+
			" gives totals for: leave it out or write "+formatCounts(counts))
	}
}

// checkPod checks the request against the rest of the pod.
func (p *parser) checkPod() {
	if !AsksForGPUMemory(p.pod) {
		for _, key := range requestKeys {
			if _, ok := p.pod.Annotations[key]; ok {
				p.forbidden(key, "it needs "+AnnotationGPUMemory+" (such as 30Gi) or "+AnnotationModel+" beside it")
			}
		}
	}
	spec := field.NewPath("spec")
	if p.pod.Spec.SchedulerName != SchedulerName {
		p.errs = append(p.errs, field.Invalid(spec.Child("schedulerName"), p.pod.Spec.SchedulerName,
			"GPU memory is given out by scheduler "+SchedulerName+": write schedulerName: "+SchedulerName))
	}
	p.checkWholeGPUs(spec.Child("initContainers"), p.pod.Spec.InitContainers)
	p.checkWholeGPUs(spec.Child("containers"), p.pod.Spec.Containers)
	names, err := GPUContainers(p.pod)
	if err == nil {
		err = checkAsking(p.pod, names[0])
	}
	if err != nil {
		p.invalid(AnnotationContainer, err)
	}
}

// checkWholeGPUs refuses resources of the stock device plugin, which would give the pod GPUs that Berth knows
// nothing of.
func (p *parser) checkWholeGPUs(path *field.Path, containers []corev1.Container) {
	for i := range containers {
		resources := path.Index(i).Child("resources")
		for _, list := range []struct {
			path *field.Path
			list corev1.ResourceList
		}{
			{resources.Child("limits"), containers[i].Resources.Limits},
			{resources.Child("requests"), containers[i].Resources.Requests},
		} {
			for _, name := range slices.Sorted(maps.Keys(list.list)) {
				if q := list.list[name]; q.Sign() != 0 && IsWholeGPU(name) {
					p.errs = append(p.errs, field.Forbidden(list.path.Key(string(name)),
						"a pod asks for GPU memory or for whole GPUs, not for both: remove it or the "+keyPrefix+" annotations"))
				}
			}
		}
	}
}

// unknownKeyDetail says what the key could have been meant to be.
func unknownKeyDetail(key string) string {
	detail := "unknown annotation; the keys are " + strings.Join(requestKeys, ", ")
	if near := nearestKey(key); near != "" {
		detail = "unknown annotation, did you mean " + near + "?"
	}
	return detail
}

// nearestKey returns the request key that shares the most pairs of neighbouring letters with the name of key, the
// first of them if there are several, or nothing if none shares two. (Pairs rather than edit distance, because
// the admission policy can count them too.)
func nearestKey(key string) string {
	name := key[len(keyPrefix):]
	best, most := "", 1
	for _, candidate := range requestKeys {
		shared := 0
		for i := 0; i+2 <= len(name); i++ {
			if strings.Contains(candidate[len(keyPrefix):], name[i:i+2]) {
				shared++
			}
		}
		if shared > most {
			best, most = candidate, shared
		}
	}
	return best
}
