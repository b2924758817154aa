// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/redact"
	"github.com/berth-dev/berth/pkg/estimator"
)

// models tells what ModelProfiles say, and what is estimated where it was measured.
func (s *Server) models(ctx context.Context, _ *http.Request) (any, error) {
	objects, _, err := s.world.source.Objects(ctx, "", false)
	if err != nil {
		return nil, err
	}
	m := &Models{TypeMeta: typeOf(KindModels), Time: metav1.NewTime(objects.Time), Models: []Model{}, Notes: objects.Notes}
	for i := range objects.Profiles {
		m.Models = append(m.Models, modelOf(&objects.Profiles[i]))
	}
	slices.SortFunc(m.Models, func(a, b Model) int { return strings.Compare(a.Profile, b.Profile) })
	return m, nil
}

func modelOf(profile *berthv1alpha1.ModelProfile) Model {
	m := Model{Profile: profile.Name, Source: redact.URI(profile.Spec.Source), Ready: profile.IsReady(), Peaks: []Peak{}}
	if c := profile.ReadyCondition(); c != nil && !m.Ready {
		m.Message = c.Message
	}
	if known := profile.Status.Model; known != nil {
		m.Architecture, m.Quantization, m.FileSize = known.Architecture, known.Quantization, known.FileSize
	}
	for i := range profile.Status.ObservedPeaks {
		m.Peaks = append(m.Peaks, peakOf(profile, &profile.Status.ObservedPeaks[i]))
	}
	return m
}

func peakOf(profile *berthv1alpha1.ModelProfile, seen *berthv1alpha1.ObservedPeak) Peak {
	p := Peak{
		Namespace: seen.Namespace, Runtime: string(seen.Settings.Runtime), Settings: seen.Settings, GPUs: int(seen.GPUCount), Measured: []int64{},
		Samples: int(seen.Samples), Time: seen.LastTime, Excess: seen.Excess.Value(),
		Fills: estimator.EngineOf(seen.Settings.Runtime).Share != nil && seen.Settings.KVCacheMemory == 0,
	}
	for i := range seen.Devices {
		p.Measured = append(p.Measured, seen.Devices[i].Value())
	}
	if !profile.IsReady() || profile.Status.Model == nil {
		p.Problem = "the size of the model is not known"
		return p
	}
	result, err := estimator.Estimate(profile.Status.Model, seen.Settings, []int{p.GPUs}, estimator.DeviceInfo{})
	switch {
	case err != nil:
		p.Problem = err.Error()
	case len(result.Options) != 1:
		p.Problem = "there is no estimate for so many GPUs"
	default:
		for _, device := range result.Options[0].Devices {
			p.Estimate = append(p.Estimate, device.Total)
		}
		p.Problem = result.Options[0].Reason
	}
	return p
}
