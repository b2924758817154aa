// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/estimator"
)

// EngineSettings returns the engine settings that the pod's estimate depends on, by which measured peaks are kept.
// It fails when the pod's request cannot be read; a pod without one has the zero settings.
func EngineSettings(pod *corev1.Pod) (estimator.Settings, error) {
	parsed, err := berthv1alpha1.ParsePodRequest(pod)
	if err != nil || parsed == nil {
		return estimator.Settings{}, err
	}
	container, err := gpuContainer(pod)
	if err != nil {
		return estimator.Settings{}, err
	}
	engine := readEngine(parsed, container)
	return engine.settings, nil
}
