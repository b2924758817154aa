// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Entry is something that is recorded of a pod.
type Entry struct {
	// Time is when it was recorded, or, of what lasts, since when it is so; absent where that is not known.
	Time metav1.Time `json:"time,omitzero"`
	// Source is where it stands: one of the Sources.
	Source string `json:"source"`
	Text   string `json:"text"`
}

// Sources of entries.
const (
	SourcePod   = "pod" // its annotations, conditions and nomination
	SourceEvent = "event"
	SourceLog   = "log"
)

// maxEntries is how many entries the short form shows: the latest.
const maxEntries = 12

// Gone explains a pod that is gone, or about to be: all there is to say is what is recorded.
func Gone(now time.Time, namespace, name string) *Explanation {
	return &Explanation{
		TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind}, Time: metav1.NewTime(now),
		Name: whatif.Name{Namespace: namespace, Name: name}, Gone: true,
	}
}

// OfPod returns what stands on the pod itself.
func OfPod(pod *corev1.Pod) (entries []Entry) {
	add := func(at metav1.Time, format string, args ...any) {
		entries = append(entries, Entry{Time: at, Source: SourcePod, Text: fmt.Sprintf(format, args...)})
	}
	var scheduled metav1.Time
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		switch {
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue:
			scheduled = c.LastTransitionTime
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse, c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue:
			add(c.LastTransitionTime, "%s=%s, %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	if node := pod.Status.NominatedNodeName; node != "" && pod.Spec.NodeName == "" {
		add(metav1.Time{}, "nominated to node %s", node)
	}
	if text := pod.Annotations[berthv1alpha1.AnnotationAllocation]; text != "" {
		add(scheduled, "%s", allocated(pod, text))
	}
	return entries
}

// allocated tells what a pod was given, and by which process.
func allocated(pod *corev1.Pod, text string) string {
	a, err := gpustate.DecodeAllocation(text)
	if err != nil {
		return "allocation that cannot be read: " + err.Error()
	}
	shares := make([]string, len(a.Devices))
	for i, d := range a.Devices {
		shares[i] = d.Memory.String() + " on " + d.UUID
		if a.Whole {
			shares[i] = d.UUID
		}
	}
	out := fmt.Sprintf("allocated on node %s: %s", pod.Spec.NodeName, strings.Join(shares, ", "))
	if by := pod.Annotations[berthv1alpha1.AnnotationBoundBy]; by != "" {
		out += ", bound by " + by
	}
	return out
}

// OfEvents returns what Events tell of decisions about a pod: those on it, and those on pods that were evicted for it.
func OfEvents(pod *corev1.Pod, events []corev1.Event) (entries []Entry) {
	for i := range events {
		e := &events[i]
		text := textOf(e)
		switch {
		case e.InvolvedObject.Namespace == pod.Namespace && e.InvolvedObject.Name == pod.Name:
			if !isOfBerth(e) {
				continue
			}
		case e.Related != nil && e.Related.UID == pod.UID && pod.UID != "":
			text = "of pod " + e.InvolvedObject.Namespace + "/" + e.InvolvedObject.Name + ", " + text
		default:
			continue
		}
		entries = append(entries, Entry{Time: timeOf(e), Source: SourceEvent, Text: text})
	}
	return entries
}

func textOf(e *corev1.Event) string {
	text := e.Reason + ": " + e.Message
	if e.Series != nil && e.Series.Count > 1 {
		text += fmt.Sprintf(" (%d times)", e.Series.Count)
	}
	return text
}

// isOfBerth says whether an Event is of the scheduler, whatever its profile is called, or of the controller.
func isOfBerth(e *corev1.Event) bool {
	for _, by := range []string{e.ReportingController, e.Source.Component} {
		if strings.HasPrefix(by, berthv1alpha1.SchedulerName) {
			return true
		}
	}
	return false
}

// timeOf returns when an Event was last seen: which field says so depends on who wrote it, by which API.
func timeOf(e *corev1.Event) metav1.Time {
	switch {
	case e.Series != nil && !e.Series.LastObservedTime.IsZero():
		return metav1.NewTime(e.Series.LastObservedTime.Time)
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp
	case !e.EventTime.IsZero():
		return metav1.NewTime(e.EventTime.Time)
	}
	return e.CreationTimestamp
}

// Sort puts entries in the order of their time; those without come last, for they are so now.
func Sort(entries []Entry) []Entry {
	slices.SortStableFunc(entries, func(a, b Entry) int {
		if a.Time.IsZero() != b.Time.IsZero() {
			return cmp.Compare(b.Time.Unix(), a.Time.Unix())
		}
		return a.Time.Compare(b.Time.Time)
	})
	return entries
}

// renderHistory writes what is recorded. Unless it is wide, what the answer says already is left out, and all but the latest.
func (e *Explanation) renderHistory(out io.Writer, wide bool) error {
	entries := slices.DeleteFunc(slices.Clone(e.History), func(h Entry) bool {
		return h.Source == SourceEvent && slices.Contains(e.Recorded, h.Text) || !wide && e.Why != "" && strings.HasSuffix(h.Text, ": "+e.Why)
	})
	if len(entries) == 0 {
		return nil
	}
	fmt.Fprintln(out, "\nRecorded of it:")
	if left := len(entries) - maxEntries; left > 0 && !wide {
		fmt.Fprintf(out, "  (%d more before: see -o wide)\n", left)
		entries = entries[left:]
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, h := range entries {
		at := "now"
		if !h.Time.IsZero() {
			at = h.Time.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", at, h.Source, h.Text)
	}
	return t.Flush()
}
