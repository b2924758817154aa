// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/evacuate"
	"github.com/berth-dev/berth/pkg/plugin/history"
)

// startEvacuation evicts pods from nodes whose driver is to be replaced, until ctx ends, if the arguments say so.
func (pl *Plugin) startEvacuation(ctx context.Context, leading func() bool) error {
	if !pl.args.EvictForDriverUpgrades {
		return nil
	}
	e, err := evacuate.New(evacuate.Options{
		Client: pl.handle.ClientSet(), Informers: pl.handle.SharedInformerFactory(),
		SchedulerName: pl.handle.ProfileName(), Leading: leading, Tried: pl.evacuationTried,
	})
	if err != nil {
		return err
	}
	go e.Run(ctx)
	return nil
}

// evacuationTried tells a pod's owner what became of the try to evict it.
func (pl *Plugin) evacuationTried(ctx context.Context, pod *corev1.Pod, outcome evacuate.Outcome, err error) {
	logger := klog.FromContext(ctx)
	pl.metrics.driverUpgradeEvictions.WithLabelValues(string(outcome)).Inc()
	why := fmt.Sprintf("its driver is to be replaced (%s)", berthv1alpha1.LabelDriverUpgradeState)
	switch outcome {
	case evacuate.Evicted:
		pl.history.Evicted(ctx, pod, pl.bookedFor(pod), history.DriverUpgrade, nil)
		pl.event(pod, nil, corev1.EventTypeNormal, eventEvictedForDriver, actionEvict,
			fmt.Sprintf("Evicted from node %s: %s", pod.Spec.NodeName, why))
	case evacuate.Refused:
		logger.Info("A pod holds up a driver upgrade", "pod", klog.KObj(pod), "node", pod.Spec.NodeName, "err", err)
		pl.event(pod, nil, corev1.EventTypeWarning, eventHoldsUpDriver, actionEvict,
			fmt.Sprintf("Node %s waits for this pod, because %s: %s", pod.Spec.NodeName, why, err))
	default:
		logger.Error(err, "Evicting a pod for a driver upgrade", "pod", klog.KObj(pod), "node", pod.Spec.NodeName)
	}
}
