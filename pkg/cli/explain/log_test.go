// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	logsjson "k8s.io/component-base/logs/json"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
	testclock "k8s.io/utils/clock/testing"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/plugin/history"
)

// unbuffered is a buffer that a log can be written to.
type unbuffered struct{ *bytes.Buffer }

func (unbuffered) Sync() error { return nil }

// TestTheLogIsQuotedInBothFormats has the scheduler's own code log, in the format of kubectl logs --timestamps.
func TestTheLogIsQuotedInBothFormats(t *testing.T) {
	text, json := &bytes.Buffer{}, &bytes.Buffer{}
	jsonLogger, _ := logsjson.NewJSONLogger(2, unbuffered{json}, nil, nil)
	for _, logger := range []klog.Logger{textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(text), textlogger.Verbosity(2))), jsonLogger} {
		ctx := klog.NewContext(t.Context(), logger)
		pod := func(namespace, name string) *corev1.Pod {
			return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + name), CreationTimestamp: metav1.NewTime(epoch)}}
		}
		l := history.New(testclock.NewFakePassiveClock(epoch.Add(time.Second)))
		l.Refused(ctx, pod("ns", "p"), "no room", `pod="ns/other" is "here"`)
		l.Refused(ctx, pod("ns", "other"), "no room", `beside pod="ns/p" too`)
		l.Refused(ctx, pod("ns2", "p"), "no room", "")
		l.Evicted(ctx, pod("ns", "v"), nil, history.LowerPriority, pod("ns", "p"))
		l.NotBound(ctx, pod("ns", "p"), "n1", history.BindRefused, errors.New("no"))
		l.Bound(ctx, pod("ns", "p"), "n1", []alloc.DeviceShare{{UUID: "GPU-a", Memory: alloc.BytesOf(1)}}, history.AfterEviction)
		logger.Info("Successfully bound pod to node", "pod", klog.KObj(pod("ns", "p")))
	}
	for format, buffer := range map[string]*bytes.Buffer{"text": text, "json": json} {
		t.Run(format, func(t *testing.T) {
			var log strings.Builder
			i := 0
			for line := range strings.Lines(buffer.String()) {
				i++
				fmt.Fprintf(&log, "%s %s", epoch.Add(time.Duration(i)*time.Second).Format(time.RFC3339Nano), line)
			}
			got, err := OfLog(strings.NewReader(log.String()+"\nno line of a log\n"), "ns", "p")
			if err != nil {
				t.Fatal(err)
			}
			want := []struct {
				at    int
				parts []string
			}{
				{1, []string{"Found no place for a pod:", `reason="no room"`, `message="pod=\"ns/other\" is \"here\""`}},
				{4, []string{"Evicted a pod:", `reason="LowerPriority"`, "gracePeriodSeconds=30"}},
				{5, []string{"Could not bind a pod to its GPUs:", `node="n1"`, `err="no"`}},
				{6, []string{"Bound a pod to its GPUs:", `after="eviction"`, `waitSeconds=1`, `devices=[{"uuid":"GPU-a","memory":1}]`}},
			}
			if len(got) != len(want) {
				t.Fatalf("%d lines:\n%v\nof\n%s", len(got), got, log.String())
			}
			for i, w := range want {
				if at := got[i].Time.Sub(epoch); at != time.Duration(w.at)*time.Second || got[i].Source != SourceLog {
					t.Errorf("%s after %s: %s", got[i].Source, at, got[i].Text)
				}
				for _, part := range w.parts {
					if !strings.Contains(got[i].Text, part) {
						t.Errorf("%s\nhas no %s", got[i].Text, part)
					}
				}
				if regexp.MustCompile(`(^| )pod=("ns/p"|\{)`).MatchString(got[i].Text) && i != 1 {
					t.Errorf("it names the pod that was asked about: %s", got[i].Text)
				}
			}
		})
	}
}

func TestALineWithoutEndIsAnError(t *testing.T) {
	if _, err := OfLog(strings.NewReader(strings.Repeat("x", maxLine+1)), "ns", "p"); err == nil {
		t.Error("no error")
	}
}

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// entriesOf writes entries as people see them.
func entriesOf(entries []Entry) (out []string) {
	for _, e := range entries {
		at := "now"
		if !e.Time.IsZero() {
			at = e.Time.Sub(epoch).String()
		}
		out = append(out, at+" "+e.Source+" "+e.Text)
	}
	return out
}

func TestWhatStandsOnThePodAndInEventsIsQuotedInItsOrder(t *testing.T) {
	at := func(s int) metav1.Time { return metav1.NewTime(epoch.Add(time.Duration(s) * time.Second)) }
	waits := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid-p"},
		Status: corev1.PodStatus{NominatedNodeName: "n1", Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes", LastTransitionTime: at(2)},
			{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: at(1)},
		}},
	}
	event := func(name, by, reason, message string, s int) corev1.Event {
		return corev1.Event{
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: name}, ReportingController: by,
			Reason: reason, Message: message, EventTime: metav1.NewMicroTime(at(s).Time),
		}
	}
	evicted := event("v", "berth", "EvictedForGPUMemory", "Evicted from node n1", 4)
	evicted.Related = &corev1.ObjectReference{Namespace: "ns", Name: "p", UID: "uid-p"}
	forAnother := event("w", "berth", "EvictedForGPUMemory", "Evicted from node n2", 4)
	forAnother.Related = &corev1.ObjectReference{UID: "uid-other"}
	series := event("p", "berth", "FailedScheduling", "0/1 nodes", 1)
	series.Series = &corev1.EventSeries{Count: 7, LastObservedTime: metav1.NewMicroTime(at(5).Time)}
	events := []corev1.Event{
		series, event("p", "kubelet", "Pulled", "an image", 3), event("p", "berth", "EvictingForGPUMemory", "Evicting ns/v", 3), evicted, forAnother,
		event("p", "berth-controller", "WaitingForModel", "its size", 0),
	}
	want := []string{
		"0s event WaitingForModel: its size",
		"2s pod PodScheduled=False, Unschedulable: 0/1 nodes",
		"3s event EvictingForGPUMemory: Evicting ns/v",
		"4s event of pod ns/v, EvictedForGPUMemory: Evicted from node n1",
		"5s event FailedScheduling: 0/1 nodes (7 times)",
		"now pod nominated to node n1",
	}
	if diff := cmp.Diff(want, entriesOf(Sort(append(OfPod(waits), OfEvents(waits, events)...)))); diff != "" {
		t.Errorf("a pod that waits (-want +got)\n%s", diff)
	}

	bound := waits.DeepCopy()
	bound.Spec.NodeName = "n1"
	bound.Annotations = map[string]string{
		"berth.dev/allocation": `{"version":1,"devices":[{"uuid":"GPU-a","memory":"1073741824"},{"uuid":"GPU-b","memory":"1073741824"}]}`,
		"berth.dev/bound-by":   "scheduler-1_x",
	}
	bound.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: at(6)},
		{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "PreemptionByScheduler", Message: "preempting", LastTransitionTime: at(9)},
	}
	want = []string{
		"6s pod allocated on node n1: 1Gi on GPU-a, 1Gi on GPU-b, bound by scheduler-1_x",
		"9s pod DisruptionTarget=True, PreemptionByScheduler: preempting",
	}
	if diff := cmp.Diff(want, entriesOf(Sort(OfPod(bound)))); diff != "" {
		t.Errorf("a pod that was evicted (-want +got)\n%s", diff)
	}
}

func TestWhatIsRecordedIsShownOnceAndTheLatestFirstToBeKept(t *testing.T) {
	e := Gone(epoch, "ns", "p")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}}
	said := []corev1.Event{{
		InvolvedObject: corev1.ObjectReference{Namespace: "ns", Name: "p"}, ReportingController: "berth",
		Reason: "FailedScheduling", Message: "said above", Series: &corev1.EventSeries{Count: 7},
	}}
	e.Recorded, e.History = RecordedBy(said), OfEvents(pod, said)
	for i := range maxEntries + 2 {
		e.History = append(e.History, Entry{Time: metav1.NewTime(epoch.Add(time.Duration(i) * time.Second)), Source: SourceLog, Text: fmt.Sprintf("line %d.", i)})
	}
	for wide, absent := range map[bool]string{false: "line 1.", true: "more before"} {
		var out strings.Builder
		if err := e.Render(&out, wide); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if !strings.HasPrefix(text, "ns/p is gone, or about to be") || strings.Contains(text, "said above") || strings.Contains(text, absent) ||
			!strings.Contains(text, "2026-11-23T12:00:13Z  log  line 13.") {
			t.Errorf("wide %t:\n%s", wide, text)
		}
	}
}

// TestTheAnswerIsNotRepeated: the condition and the Event of a pod that waits say what the first line says.
func TestTheAnswerIsNotRepeated(t *testing.T) {
	e := Gone(epoch, "ns", "p")
	e.Gone, e.Why = false, "0/2 nodes are available."
	e.History = []Entry{
		{Source: SourcePod, Text: "PodScheduled=False, Unschedulable: 0/2 nodes are available."},
		{Source: SourceEvent, Text: "FailedScheduling: 0/1 nodes are available."}, // earlier
	}
	for wide, want := range map[bool]int{false: 1, true: 2} {
		var out strings.Builder
		if err := e.renderHistory(&out, wide); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(out.String(), " nodes are available."); got != want {
			t.Errorf("wide %t: %d of them are shown, want %d:\n%s", wide, got, want, out.String())
		}
	}
}
