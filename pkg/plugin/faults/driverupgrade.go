// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/evacuate"
	"github.com/berth-dev/berth/pkg/plugin/history"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// StartEvacuation evicts pods from nodes whose driver is to be replaced, until ctx ends, if the arguments say so.
func (w *Watcher) StartEvacuation(ctx context.Context) error {
	if !w.Args.EvictForDriverUpgrades {
		return nil
	}
	e, err := evacuate.New(evacuate.Options{
		Client: w.Handle.ClientSet(), Informers: w.Handle.SharedInformerFactory(),
		SchedulerName: w.Handle.ProfileName(), Leading: w.Leader.Leading, Tried: w.EvacuationTried,
	})
	if err != nil {
		return err
	}
	go e.Run(ctx)
	return nil
}

// EvacuationTried tells a pod's owner what became of the try to evict it.
func (w *Watcher) EvacuationTried(ctx context.Context, pod *corev1.Pod, outcome evacuate.Outcome, err error) {
	logger := klog.FromContext(ctx)
	w.DriverUpgradeEvictions.WithLabelValues(string(outcome)).Inc()
	why := fmt.Sprintf("its driver is to be replaced (%s)", berthv1alpha1.LabelDriverUpgradeState)
	switch outcome {
	case evacuate.Evicted:
		w.History.Evicted(ctx, pod, w.BookedFor(pod), history.DriverUpgrade, nil)
		w.Event(pod, nil, corev1.EventTypeNormal, words.EventEvictedForDriver, words.ActionEvict,
			fmt.Sprintf("Evicted from node %s: %s", pod.Spec.NodeName, why))
	case evacuate.Refused:
		logger.Info("A pod holds up a driver upgrade", "pod", klog.KObj(pod), "node", pod.Spec.NodeName, "err", err)
		w.Event(pod, nil, corev1.EventTypeWarning, words.EventHoldsUpDriver, words.ActionEvict,
			fmt.Sprintf("Node %s waits for this pod, because %s: %s", pod.Spec.NodeName, why, err))
	default:
		logger.Error(err, "Evicting a pod for a driver upgrade", "pod", klog.KObj(pod), "node", pod.Spec.NodeName)
	}
}
