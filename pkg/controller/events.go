// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"

	"github.com/berth-dev/berth/internal/eventnote"
)

// Reasons of the Events on gated pods. docs/models.md says what to do about each.
const (
	// EventWaiting: the model's size is being looked up.
	EventWaiting = "WaitingForModel"
	// EventUnknown: the model's size cannot be known as things are; the message says why.
	EventUnknown = "ModelUnknown"
	// EventNoProfile: the pod names a profile that does not exist.
	EventNoProfile = "ModelProfileMissing"
	// EventLimit: the pods of the namespace name as many models as may be looked up for them.
	EventLimit = "ModelLimitReached"
)

// repeatAfter is when a pod that still waits is told again: the API server forgets Events after an hour.
const repeatAfter = 50 * time.Minute

// announcer writes Events on pods, but the same one only once in a while.
type announcer struct {
	recorder events.EventRecorder
	clock    clock.PassiveClock

	mu   sync.Mutex
	told map[types.NamespacedName]announcement
}

// announcement is what a pod was told last.
type announcement struct {
	uid  types.UID
	what string
	at   time.Time
}

func newAnnouncer(recorder events.EventRecorder, c clock.PassiveClock) *announcer {
	return &announcer{recorder: recorder, clock: c, told: map[types.NamespacedName]announcement{}}
}

// tell writes an Event unless the pod was told the same, by what, lately. It returns when to tell it again. what
// stands for the message where that differs from one attempt to the next without saying anything new.
func (a *announcer) tell(pod *corev1.Pod, kind, reason, what, message string) time.Duration {
	key := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	now := a.clock.Now()
	a.mu.Lock()
	last := a.told[key]
	if left := last.at.Add(repeatAfter).Sub(now); last.uid == pod.UID && last.what == reason+what && left > 0 {
		a.mu.Unlock()
		return left
	}
	a.told[key] = announcement{uid: pod.UID, what: reason + what, at: now}
	a.mu.Unlock()
	a.recorder.Eventf(pod, nil, kind, reason, "ResolveModel", "%s", eventnote.Fit(message))
	return repeatAfter
}

// forget drops what a pod was told, once it is gone or waits no more.
func (a *announcer) forget(key types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.told, key)
}
