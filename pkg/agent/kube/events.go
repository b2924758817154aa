// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/berth-dev/berth/internal/eventnote"
)

const (
	// eventQueue is how many Events may wait; more are dropped, with a log line.
	eventQueue = 64
	// eventTimeout bounds one request.
	eventTimeout = 10 * time.Second
	// eventMaxName is how much of a pod's name goes into the Event's, which has 253 characters.
	eventMaxName = 200
	// eventAction is what Events say was done.
	eventAction = "CheckAllocation"
)

// Events writes warnings on pods. It implements agent.EventRecorder.
type Events struct {
	rest  rest.Interface
	node  string
	clock clock.PassiveClock
	queue chan *eventsv1.Event
	// written makes the names of Events unlike.
	written atomic.Uint32
}

// NewEvents returns a recorder in the name of a node's agent; Run writes what it takes.
func NewEvents(client rest.Interface, node string, c clock.PassiveClock) *Events {
	return &Events{rest: client, node: node, clock: c, queue: make(chan *eventsv1.Event, eventQueue)}
}

// Warn takes a warning on a pod.
func (e *Events) Warn(pod *corev1.Pod, reason, note string) {
	now := e.clock.Now()
	event := &eventsv1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: "events.k8s.io/v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace,
			Name:      fmt.Sprintf("%.*s.%x.%x", eventMaxName, pod.Name, now.UnixNano(), e.written.Add(1)),
		},
		EventTime:           metav1.NewMicroTime(now),
		ReportingController: "berth.dev/agent",
		ReportingInstance:   e.node,
		Action:              eventAction,
		Reason:              reason,
		Type:                corev1.EventTypeWarning,
		Note:                eventnote.Fit(note),
		Regarding: corev1.ObjectReference{
			APIVersion:      "v1",
			Kind:            "Pod",
			Namespace:       pod.Namespace,
			Name:            pod.Name,
			UID:             pod.UID,
			ResourceVersion: pod.ResourceVersion,
		},
	}
	select {
	case e.queue <- event:
	default:
		klog.Background().Info("Event dropped, too many wait", "pod", klog.KObj(pod), "reason", reason)
	}
}

// Run writes until ctx ends. An Event that the API server does not take is dropped: the metric and the log have it.
func (e *Events) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-e.queue:
			if err := e.write(ctx, event); err != nil && ctx.Err() == nil {
				klog.FromContext(ctx).Error(err, "Event not written", "event", event.Name, "reason", event.Reason)
			}
		}
	}
}

func (e *Events) write(ctx context.Context, event *eventsv1.Event) error {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	body, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("encode Event: %w", err)
	}
	return e.rest.Post().AbsPath("/apis/events.k8s.io/v1/namespaces", event.Namespace, "events").
		SetHeader("Content-Type", runtime.ContentTypeJSON).SetHeader("Accept", runtime.ContentTypeJSON).
		Body(body).Do(ctx).Error()
}
