// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

const (
	// Horizon is how long pods are waited for that wait for something which is under way.
	Horizon = time.Hour
	// maxTries is how many cycles a pod may have at one moment.
	maxTries = 100
)

// Create adds pods, as if they were created one after the other.
func (s *Simulator) Create(pods ...*corev1.Pod) error {
	for _, pod := range pods {
		s.clock.tick()
		if _, exists := find[*corev1.Pod](s.world, pod.Namespace, pod.Name); exists {
			return fmt.Errorf("pod %s/%s exists already", pod.Namespace, pod.Name)
		}
		pod = pod.DeepCopy()
		pod.CreationTimestamp, pod.ResourceVersion = metav1.NewTime(s.clock.Now()), ""
		if pod.UID == "" {
			pod.UID = types.UID("sim-" + pod.Namespace + "-" + pod.Name)
		}
		if err := s.claims.make(pod); err != nil {
			return err
		}
		if err := s.world.put(pod); err != nil {
			return err
		}
	}
	return nil
}

// Try creates a pod and gives it one cycle. It returns the pod as it is bound, or why it found no place; then it is gone again, and
// waits for nothing. No other pod may be waiting.
func (s *Simulator) Try(pod *corev1.Pod) (bound *corev1.Pod, why string, err error) {
	if err := s.Create(pod); err != nil {
		return nil, "", err
	}
	if n := s.toTry(); n == 1 {
		if err := s.scheduleOne(); err != nil {
			return nil, "", err
		}
	} else if n > 1 {
		return nil, "", fmt.Errorf("%d pods are to be tried, not pod %s/%s alone", n, pod.Namespace, pod.Name)
	}
	if len(s.api.unknown) > 0 {
		return nil, "", fmt.Errorf("the scheduler asked for what is not simulated: %q", s.api.unknown)
	}
	tried := s.Pod(pod.Namespace, pod.Name)
	if tried.Spec.NodeName == "" {
		why, err = s.whyPending(tried), s.world.remove(tried)
	} else {
		bound = tried
	}
	delete(s.history, tried.UID)
	return bound, why, err
}

// Delete takes a pod away at once, without its grace period. No outcome of it is known any more.
func (s *Simulator) Delete(pod *corev1.Pod) error {
	delete(s.history, pod.UID)
	return s.kubelet.gone(pod)
}

// RunUntil schedules until a moment, to which it moves the clock, past what happens by itself on the way.
func (s *Simulator) RunUntil(t time.Time) error {
	for {
		if err := s.schedule(); err != nil {
			return err
		}
		next, ok := s.clock.next()
		if !ok || next.After(t) {
			break
		}
		if err := s.moveTo(next); err != nil {
			return err
		}
	}
	if len(s.api.unknown) > 0 {
		return fmt.Errorf("the scheduler asked for what is not simulated: %q", s.api.unknown)
	}
	return s.moveTo(t)
}

// Run schedules until nothing happens any more by itself: no pod starts or ends, and none waits for memory that is on its
// way. What only a longer time would bring, such as the end of a min-runtime, is not waited for.
func (s *Simulator) Run() error {
	end := s.clock.Now().Add(Horizon)
	for {
		if err := s.schedule(); err != nil {
			return err
		}
		next, ok := s.clock.next()
		if !ok || next.After(end) || s.kubelet.under == 0 && !s.isWaiting() {
			break
		}
		if err := s.moveTo(next); err != nil {
			return err
		}
	}
	if len(s.api.unknown) > 0 {
		return fmt.Errorf("the scheduler asked for what is not simulated: %q", s.api.unknown)
	}
	return s.kubelet.failed
}

// RunToTry goes on, after Run, until a pod that waits is tried again, and what that brings about is over. It returns when it is
// tried; the zero time if nothing that is known makes it be tried within a time: no pod's idle-after or min-runtime ends, none
// that loads is given up. Pods go on as they are: who computes computes, and who is idle stays so.
func (s *Simulator) RunToTry(namespace, name string, within time.Duration) (time.Time, error) {
	pod := s.Pod(namespace, name)
	if pod == nil || pod.Spec.NodeName != "" {
		return time.Time{}, nil
	}
	before, end := s.historyOf(pod.UID).cycles, s.clock.Now().Add(within)
	for {
		next, ok := s.clock.next()
		if !ok || next.After(end) {
			return time.Time{}, nil
		}
		if err := s.moveTo(next); err != nil {
			return time.Time{}, err
		}
		at := s.clock.Now()
		if err := s.schedule(); err != nil {
			return time.Time{}, err
		}
		if s.historyOf(pod.UID).cycles > before {
			return at, s.Run()
		}
	}
}

// moveTo moves the clock, and what happens by itself meanwhile happens in no cycle.
func (s *Simulator) moveTo(t time.Time) error {
	s.cycle = newCycle()
	s.clock.moveTo(t)
	return s.agent.renew()
}

// isWaiting says whether a pod waits for a place that it was promised.
func (s *Simulator) isWaiting() bool {
	for _, pod := range s.pending {
		if pod.Status.NominatedNodeName != "" && s.IsOurs(pod) {
			return true
		}
	}
	return false
}

// schedule runs scheduling cycles until no pod is to be tried now.
func (s *Simulator) schedule() error {
	for s.ctx.Err() == nil {
		n := s.toTry()
		if n == 0 {
			return s.kubelet.failed
		}
		// To count is dear, so it is done once for as many cycles, unless a pod goes that may be one of them.
		for deleted := s.deletions; n > 0 && s.deletions == deleted; n-- {
			if err := s.scheduleOne(); err != nil {
				return err
			}
		}
	}
	return s.ctx.Err()
}

// scheduleOne runs the cycle of the pod at the head of the queue, and its binding.
func (s *Simulator) scheduleOne() error {
	s.cycle = newCycle()
	s.sched.ScheduleOne(s.ctx)
	c := s.cycle
	if c.reserved && !c.failed {
		<-c.ended // its binding cycle is a goroutine
	}
	if c.pod == nil {
		return errors.New("the scheduler's queue handed out no pod")
	}
	h := s.historyOf(c.pod.UID)
	h.cycles++
	if !h.when.Equal(s.clock.Now()) {
		h.when, h.tries = s.clock.Now(), 0
	}
	if h.tries++; h.tries > maxTries {
		return fmt.Errorf("pod %s does not come to rest: it was tried %d times at one moment", klog.KObj(c.pod), h.tries)
	}
	if !c.failed {
		h.failure = nil
	}
	return nil
}

// toTry says how many pods the queue hands out now. One whose last try ended in an error has to wait.
func (s *Simulator) toTry() int {
	if n := len(s.sched.SchedulingQueue.PodsInActiveQ()); n > 0 {
		return n
	}
	n := 0
	for _, pod := range s.sched.SchedulingQueue.PodsInBackoffQ() {
		if h := s.history[pod.UID]; h == nil || h.failure == nil || !h.failure.erred {
			n++
		}
	}
	return n
}

// nextEntity notes whose cycle begins.
func (s *Simulator) nextEntity(logger klog.Logger) (framework.QueuedEntityInfo, error) {
	entity, err := s.sched.SchedulingQueue.Pop(logger)
	if info, ok := entity.(*framework.QueuedPodInfo); ok && err == nil {
		s.cycle.pod = info.Pod
	}
	return entity, err
}
