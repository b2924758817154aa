// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
)

// Event is what the owner of a pod would have been told.
type Event struct {
	Type, Reason, Note string
}

// recorder keeps the Events of pods, unless of is nil.
type recorder struct{ of map[types.UID][]Event }

var _ events.EventRecorderLogger = recorder{}

func (r recorder) Eventf(regarding, _ runtime.Object, eventType, reason, _, note string, args ...any) {
	if pod, ok := regarding.(*corev1.Pod); ok && r.of != nil {
		r.of[pod.UID] = append(r.of[pod.UID], Event{Type: eventType, Reason: reason, Note: fmt.Sprintf(note, args...)})
	}
}

func (r recorder) WithLogger(klog.Logger) events.EventRecorderLogger { return r }
