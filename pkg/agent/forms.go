// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// refutedFor is for how long a form is not used after the last pod was seen that could not start by it: after a
	// mended node nobody has to tell the agent.
	refutedFor = 10 * time.Minute
	// maxHandOffMessage is the API's limit.
	maxHandOffMessage = 1024
)

// formKey is one way to name GPUs to one runtime handler.
type formKey struct {
	handler string
	form    berthv1alpha1.DeviceForm
}

// evidence is what pods have shown of a form. Once one has used its GPUs by it, the form stands: a pod that fails later
// fails for another reason.
type evidence struct {
	// confirmedBy is the pod whose processes were measured on its GPUs.
	confirmedBy string
	// refutedBy is the pod that could not start, as message says, when it was last seen so.
	refutedBy, message string
	seen               time.Time
}

// formChecker holds what the files say against what pods show. It is the observer's alone.
type formChecker struct {
	// since is when the files changed: what was started before shows nothing of them.
	since    time.Time
	evidence map[formKey]*evidence
}

// check looks at the pods of a node, and returns how its runtimes can be told GPUs; nil if nothing is known.
func (c *formChecker) check(
	files []berthv1alpha1.RuntimeHandOff, changed time.Time, pods []*corev1.Pod, s *berthv1alpha1.GPUNodeStatus, now time.Time,
) *berthv1alpha1.HandOff {
	if !changed.Equal(c.since) || c.evidence == nil {
		c.since, c.evidence = changed, map[formKey]*evidence{}
	}
	measured := measuredByPod(s)
	for _, pod := range pods {
		if form, devices := handedOver(pod); form != "" {
			key := formKey{handlerOf(pod), form}
			if e := c.judge(c.evidence[key], pod, devices, measured[pod.UID], s, now); e != nil {
				c.evidence[key] = e
			} else {
				delete(c.evidence, key)
			}
		}
	}
	for key, e := range c.evidence {
		if e.confirmedBy == "" && now.Sub(e.seen) > refutedFor {
			delete(c.evidence, key)
		}
	}
	return c.merge(files)
}

// judge returns what is known of a form after a look at one pod.
func (c *formChecker) judge(
	e *evidence, pod *corev1.Pod, devices []string, measured map[string]uint64, s *berthv1alpha1.GPUNodeStatus, now time.Time,
) *evidence {
	if e != nil && e.confirmedBy != "" {
		return e
	}
	if message, failed := berthv1alpha1.HandOffFailure(pod); failed {
		if !refutes(message) || !allHealthy(devices, s) || triedBefore(pod, c.since) {
			return e
		}
		if e == nil {
			e = &evidence{refutedBy: klog.KObj(pod).String(), message: message}
		}
		e.seen = now
		return e
	}
	started := startedAt(pod)
	switch {
	case started.IsZero() || !started.After(c.since):
		return e
	case usesOnly(measured, devices):
		return &evidence{confirmedBy: klog.KObj(pod).String()}
	case e != nil && started.After(e.seen):
		return nil // the runtime took it this time
	}
	return e
}

// merge puts what pods have shown over what the files say.
func (c *formChecker) merge(files []berthv1alpha1.RuntimeHandOff) *berthv1alpha1.HandOff {
	out := &berthv1alpha1.HandOff{}
	for i := range files {
		r := *files[i].DeepCopy()
		for _, form := range allForms {
			c.apply(&r, form)
		}
		out.Runtimes = append(out.Runtimes, r)
	}
	for key, e := range c.evidence {
		if e.confirmedBy != "" || slices.ContainsFunc(out.Runtimes, func(r berthv1alpha1.RuntimeHandOff) bool { return r.Handler == key.handler }) {
			continue
		}
		// Of this handler the files say nothing, and one form does not work. That one works says nothing of the other.
		r := berthv1alpha1.RuntimeHandOff{Handler: key.handler}
		if key.form != berthv1alpha1.DeviceFormNRI {
			r.Accepts = slices.Clone(allForms[:2])
		}
		for _, form := range allForms {
			c.apply(&r, form)
		}
		out.Runtimes = append(out.Runtimes, r)
	}
	if len(out.Runtimes) == 0 {
		return nil
	}
	slices.SortFunc(out.Runtimes, func(a, b berthv1alpha1.RuntimeHandOff) int { return strings.Compare(a.Handler, b.Handler) })
	return out
}

// allForms are those of the environment, the preferred one first, and that of NRI.
var allForms = []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI, berthv1alpha1.DeviceFormUUID, berthv1alpha1.DeviceFormNRI}

func (c *formChecker) apply(r *berthv1alpha1.RuntimeHandOff, form berthv1alpha1.DeviceForm) {
	e := c.evidence[formKey{r.Handler, form}]
	switch {
	case e == nil:
		return
	case e.confirmedBy == "":
		r.Accepts = slices.DeleteFunc(r.Accepts, func(f berthv1alpha1.DeviceForm) bool { return f == form })
		r.Message = fmt.Sprintf("pod %s was not given its GPUs in the form %s: %s", e.refutedBy, form, e.message)
	case !slices.Contains(r.Accepts, form):
		r.Accepts = append(r.Accepts, form)
		r.Message = fmt.Sprintf("pod %s uses its GPUs in the form %s", e.confirmedBy, form)
	}
	if len(r.Message) > maxHandOffMessage {
		r.Message = strings.ToValidUTF8(r.Message[:maxHandOffMessage], "")
	}
}

// refutes says whether a failure is one of the form: the names were not understood. Others are the driver's, or of
// another part of the toolkit.
func refutes(message string) bool {
	return strings.Contains(message, "unresolvable CDI devices") || strings.Contains(message, "unknown device") ||
		strings.Contains(message, "NVIDIA Container Runtime Hook directly")
}

// usesOnly says whether processes were measured on some of the devices, and on no others.
func usesOnly(measured map[string]uint64, devices []string) bool {
	for device := range measured {
		if !slices.Contains(devices, device) {
			return false
		}
	}
	return len(measured) > 0
}

// allHealthy says whether a report has all the devices in good health. A device that is gone is unknown to every runtime.
func allHealthy(devices []string, s *berthv1alpha1.GPUNodeStatus) bool {
	for _, uuid := range devices {
		if !slices.ContainsFunc(s.Devices, func(d berthv1alpha1.GPUDevice) bool {
			return d.UUID == uuid && d.Health == berthv1alpha1.DeviceHealthy
		}) {
			return false
		}
	}
	return true
}
