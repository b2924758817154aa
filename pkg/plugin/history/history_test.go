// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	logsjson "k8s.io/component-base/logs/json"
	"k8s.io/component-base/metrics/testutil"
	"k8s.io/klog/v2"
	testclock "k8s.io/utils/clock/testing"

	"github.com/berth-dev/berth/pkg/alloc"
)

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// unbuffered is a buffer that a log can be written to.
type unbuffered struct{ *bytes.Buffer }

func (unbuffered) Sync() error { return nil }

// logged returns a context whose log is the buffer, at -v=2 in the format of --logging-format=json.
func logged(t *testing.T) (context.Context, *bytes.Buffer) {
	buffer := &bytes.Buffer{}
	logger, _ := logsjson.NewJSONLogger(2, unbuffered{buffer}, nil, nil)
	return klog.NewContext(t.Context(), logger), buffer
}

func lines(t *testing.T, buffer *bytes.Buffer) (out []map[string]any) {
	t.Helper()
	for line := range strings.Lines(buffer.String()) {
		pairs := map[string]any{}
		if err := json.Unmarshal([]byte(line), &pairs); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, pairs)
	}
	return out
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(epoch.Add(-90 * time.Second))},
		Spec:       corev1.PodSpec{NodeName: "n1", Priority: new(int32(7))},
	}
}

var devices = []alloc.DeviceShare{{UUID: "GPU-a", Memory: alloc.BytesOf(30 << 30)}}

// everything makes a line of each kind.
func everything(ctx context.Context) {
	l := New(testclock.NewFakePassiveClock(epoch))
	p := pod("p")
	l.Booked(ctx, p, &Booking{Node: "n1", Devices: devices, TensorParallelSize: 1, Viable: 2, Options: 3})
	l.Bound(ctx, p, "n1", devices, AfterRoom)
	l.NotBound(ctx, p, "n1", BindRefused, errors.New("no"))
	l.Waits(ctx, p, "n1", devices, "2 pods are going")
	l.Evicts(ctx, p, &Plan{Node: "n1", Devices: devices, Victims: []*corev1.Pod{pod("v")}, Frees: alloc.BytesOf(1 << 30), Cost: "1 victim", Exact: true, Message: "m"})
	l.Dropped(ctx, p, "n1", "node-gone", "the node is gone")
	l.Refused(ctx, p, "no room", "0/1 nodes")
	l.Evicted(ctx, pod("v"), devices, LowerPriority, p)
}

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTheTableHasWhatIsLogged compares docs/history.md with each line: its message, verbosity and keys.
func TestTheTableHasWhatIsLogged(t *testing.T) {
	ctx, buffer := logged(t)
	everything(ctx)
	got := map[string]string{}
	for _, pairs := range lines(t, buffer) {
		row := fmt.Sprint(pairs["v"])
		for _, key := range []string{"ts", "caller"} {
			delete(pairs, key)
		}
		message := pairs["msg"].(string)
		delete(pairs, "msg")
		delete(pairs, "v")
		got[message] = row + " " + strings.Join(slices.Sorted(maps.Keys(pairs)), " ")
	}
	want := map[string]string{}
	for _, match := range regexp.MustCompile("(?m)^\\| `([A-Z][^`]+)` \\| (\\d) \\| ([^|]+) \\|").FindAllStringSubmatch(page(t, "history.md"), -1) {
		keys := strings.Split(strings.ReplaceAll(match[3], "`", ""), ", ")
		slices.Sort(keys)
		want[match[1]] = match[2] + " " + strings.Join(keys, " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/history.md (-documented +logged):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(Messages.UnsortedList())), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("messages (-listed +logged):\n%s", diff)
	}
}

func TestALastingReasonIsLoggedOnce(t *testing.T) {
	ctx, buffer := logged(t)
	l := New(testclock.NewFakePassiveClock(epoch))
	before := counted(t, l, "no room")
	for _, reason := range []string{"no room", "no room", "stale", "no room"} {
		l.Refused(ctx, pod("p"), reason, "")
	}
	l.Refused(ctx, pod("other"), "no room", "")
	l.Forget("p")
	l.Refused(ctx, pod("p"), "no room", "")
	l.Waits(ctx, pod("p"), "n1", nil, "")
	l.Refused(ctx, pod("p"), "no room", "")
	var got []string
	for _, pairs := range lines(t, buffer) {
		got = append(got, fmt.Sprint(pairs["msg"], " ", pairs["pod"].(map[string]any)["name"], " ", pairs["reason"]))
	}
	want := []string{
		msgRefused + " p no room", msgRefused + " p stale", msgRefused + " p no room", msgRefused + " other no room",
		msgRefused + " p no room", msgWaits + " p <nil>", msgRefused + " p no room",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n := counted(t, l, "no room") - before; n != 6 {
		t.Errorf("%v were counted, want each of the 6", n)
	}
}

func counted(t *testing.T, l *Log, reason string) float64 {
	t.Helper()
	n, err := testutil.GetCounterMetricValue(l.counts.decisions.WithLabelValues(decisionRefused, reason))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWaitingTimeIsBySizeOfAllGPUs(t *testing.T) {
	for gib, want := range map[uint64]string{1: "16Gi", 16: "16Gi", 17: "40Gi", 40: "40Gi", 80: "80Gi", 81: "320Gi", 320: "320Gi", 321: "more"} {
		half := alloc.BytesOf(gib << 29)
		if got := sizeClass([]alloc.DeviceShare{{Memory: half}, {Memory: half}}); got != want {
			t.Errorf("%d GiB are of class %s, want %s", gib, got, want)
		}
	}
	ctx, buffer := logged(t)
	New(testclock.NewFakePassiveClock(epoch)).Bound(ctx, pod("p"), "n1", devices, AfterRoom)
	if got := lines(t, buffer)[0]["waitSeconds"]; got != 90.0 {
		t.Errorf("waited %v s, want 90", got)
	}
}

func TestMemoryIsLoggedInBytes(t *testing.T) {
	ctx, buffer := logged(t)
	New(testclock.NewFakePassiveClock(epoch)).Evicted(ctx, pod("v"), devices, Idle, nil)
	got := lines(t, buffer)[0]
	want := []any{map[string]any{"uuid": "GPU-a", "memory": float64(30 << 30)}}
	if diff := cmp.Diff(want, got["devices"]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got["gracePeriodSeconds"] != 30.0 || got["priority"] != 7.0 {
		t.Errorf("grace %v, priority %v", got["gracePeriodSeconds"], got["priority"])
	}
}
