// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package podcheck

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// refutedFor is for how long a form is not used after the last pod was seen that could not start by it, and confirmedFor
	// for how long it stands after the last pod was seen to use its GPUs by it: nobody has to tell the controller of a node
	// that was mended, or of one that was changed in a way that the agent does not see.
	refutedFor   = 10 * time.Minute
	confirmedFor = 24 * time.Hour
	// renewals is how often, within that time, it is written that it was seen again.
	renewals = 10
	// maxMessage and maxShown are the API's limits.
	maxMessage = 1024
	maxShown   = 48
)

// look is one look at the pods of a node.
type look struct {
	status  *berthv1alpha1.GPUNodeStatus
	files   *metav1.Time
	changed time.Time
	now     time.Time
}

// Shown returns what is known of each form on a node after a look at its pods: what the report has of it, and what the
// pods show now. Once a pod has used its GPUs by a form, the form stands: a pod that fails later fails for another
// reason. A change of the node's files ends it. next is when to look again though nothing changes; zero if there is no
// need to.
func Shown(s *berthv1alpha1.GPUNodeStatus, pods []*corev1.Pod, now time.Time) (out []berthv1alpha1.ShownForm, next time.Time) {
	l := look{status: s, now: now}
	if h := s.HandOff; h != nil {
		if l.files = h.ChangedTime; l.files != nil {
			l.changed = l.files.Time
		}
		for i := range h.Shown {
			if h.Shown[i].FilesTime.Equal(l.files) {
				out = append(out, h.Shown[i])
			}
		}
	}
	measured := measuredByPod(s)
	for _, pod := range pods {
		form, devices := handedOver(pod)
		if form == "" {
			continue
		}
		i := slices.IndexFunc(out, func(f berthv1alpha1.ShownForm) bool { return f.Handler == handlerOf(pod) && f.Form == form })
		var known *berthv1alpha1.ShownForm
		if i >= 0 {
			known = &out[i]
		}
		after := l.judge(known, pod, form, devices, measured[pod.UID])
		switch {
		case after == nil && i >= 0:
			out = slices.Delete(out, i, i+1)
		case after != nil && i >= 0:
			out[i] = *after
		case after != nil && len(out) < maxShown:
			out = append(out, *after)
		}
	}
	out = slices.DeleteFunc(out, func(f berthv1alpha1.ShownForm) bool { return now.Sub(f.SeenTime.Time) > lifeOf(&f) })
	for i := range out {
		next = Earliest(next, out[i].SeenTime.Add(lifeOf(&out[i])+time.Second))
	}
	slices.SortFunc(out, func(a, b berthv1alpha1.ShownForm) int {
		return strings.Compare(a.Handler+" "+string(a.Form), b.Handler+" "+string(b.Form))
	})
	return out, next
}

func lifeOf(f *berthv1alpha1.ShownForm) time.Duration {
	if f.Works {
		return confirmedFor
	}
	return refutedFor
}

// judge returns what is known of a form after a look at one pod; nil for nothing.
func (l *look) judge(
	known *berthv1alpha1.ShownForm, pod *corev1.Pod, form berthv1alpha1.DeviceForm, devices []string, measured map[string]uint64,
) *berthv1alpha1.ShownForm {
	seen := func(works bool, text string) *berthv1alpha1.ShownForm {
		if known != nil && known.Works == works && l.now.Sub(known.SeenTime.Time) < lifeOf(known)/renewals {
			return known
		}
		return &berthv1alpha1.ShownForm{
			Handler: handlerOf(pod), Form: form, Works: works, FilesTime: l.files.DeepCopy(), SeenTime: metav1.NewTime(l.now).Rfc3339Copy(),
			Message: cut("pod " + pod.Namespace + "/" + pod.Name + text),
		}
	}
	started := startedAt(pod)
	fresh := !started.IsZero() && started.After(l.changed)
	if message, failed := berthv1alpha1.HandOffFailure(pod); failed {
		if known != nil && known.Works || !refutes(message) || !allHealthy(devices, l.status) || triedBefore(pod, l.changed) {
			return known
		}
		return seen(false, fmt.Sprintf(" was not given its GPUs in the form %s: %s", form, message))
	}
	switch {
	case fresh && usesOnly(measured, devices):
		return seen(true, fmt.Sprintf(" uses its GPUs in the form %s", form))
	case fresh && known != nil && !known.Works && started.After(known.SeenTime.Time):
		return nil // the runtime took it this time
	}
	return known
}

func cut(message string) string {
	if len(message) > maxMessage {
		message = message[:maxMessage]
	}
	return strings.ToValidUTF8(message, "")
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
