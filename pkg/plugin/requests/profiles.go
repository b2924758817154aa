// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package requests

import (
	"k8s.io/client-go/tools/cache"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// Profiles are the ModelProfiles that are known, by name. The zero value has none.
type Profiles struct{ Store cache.Store }

// of returns the profile of a model, under whichever of its names; nil if there is none.
func (p Profiles) of(model string) *berthv1alpha1.ModelProfile {
	for _, name := range berthv1alpha1.ModelProfileNames(model) {
		if profile := p.get(name); profile != nil && profile.IsOf(model) {
			return profile
		}
	}
	return nil
}

// get returns a profile, or nil.
func (p Profiles) get(name string) *berthv1alpha1.ModelProfile {
	if p.Store == nil {
		return nil
	}
	if obj, ok, _ := p.Store.GetByKey(name); ok {
		return obj.(*berthv1alpha1.ModelProfile)
	}
	return nil
}

func versionOf(p *berthv1alpha1.ModelProfile) string {
	if p == nil {
		return ""
	}
	return p.ResourceVersion
}
