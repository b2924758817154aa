// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package nodehealth

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// report has a device for each reason; an empty one is that of a healthy device.
func report(reasons ...string) *berthv1alpha1.GPUNodeStatus {
	s := &berthv1alpha1.GPUNodeStatus{}
	for i, reason := range reasons {
		d := berthv1alpha1.GPUDevice{UUID: fmt.Sprintf("GPU-%d", i), Index: int32(i), Health: berthv1alpha1.DeviceHealthy, Reason: reason}
		if reason != "" {
			d.Health = berthv1alpha1.DeviceUnhealthy
		}
		s.Devices = append(s.Devices, d)
	}
	return s
}

func TestCondition(t *testing.T) {
	for _, tc := range []struct {
		name   string
		report *berthv1alpha1.GPUNodeStatus
		want   string
	}{
		{"all are well", report("", ""), "False GPUsAreHealthy no GPU of the node has a fault"},
		{"one has a fault", report("", "Xid79"), "True Xid79 GPU 1 (GPU-1): Xid79"},
		{"several have the same", report("Xid79", "Xid79"), "True Xid79 GPU 0 (GPU-0): Xid79; GPU 1 (GPU-1): Xid79"},
		{"several have different ones", report("Xid79", "DeviceLost"), "True SeveralFaults GPU 0 (GPU-0): Xid79; GPU 1 (GPU-1): DeviceLost"},
		{"one is cut into instances", report("MIGEnabled", ""), "False GPUsAreHealthy no GPU of the node has a fault"},
		{"one waits to be", report("MIGModePending"), "False GPUsAreHealthy no GPU of the node has a fault"},
		{"one cannot tell its memory", report("MemoryNotSupported"), "False GPUsAreHealthy no GPU of the node has a fault"},
		{"somebody wrote a reason that is none", report("all is well: really"), "True OtherFault GPU 0 (GPU-0): all is well: really"},
		{"there is none", report(), "Unknown NoGPUsReported the node's agent reports no GPU"},
		{"the report cannot be read", nil, "Unknown ReportUnreadable the report of the node's GPUs cannot be decoded"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Condition(tc.report)
			if diff := cmp.Diff(tc.want, fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if c.Type != "GPUUnhealthy" {
				t.Errorf("type %s", c.Type)
			}
		})
	}
}

func TestSilentTellsWhatWasKnownBefore(t *testing.T) {
	got := Silent(Condition(report("Xid79")))
	want := corev1.NodeCondition{
		Type: "GPUUnhealthy", Status: "Unknown", Reason: "AgentSilent",
		Message: "the node's agent has not renewed its Lease; before, GPU 0 (GPU-0): Xid79",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	long := strings.Repeat("é", 600) // of two bytes each, so that one would be cut in half
	for _, c := range []corev1.NodeCondition{Condition(report(long, long)), Silent(Condition(report(long)))} {
		if len(c.Message) > maxMessage || !utf8.ValidString(c.Message) || !strings.HasSuffix(c.Message, "…") {
			t.Errorf("%d bytes, %q", len(c.Message), c.Message)
		}
	}
}
