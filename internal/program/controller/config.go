// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/modelsource"
)

// configKind is the kind of the configuration file.
const configKind = "ControllerConfiguration"

// sources is where models may be read from: the configuration file, which flags add to.
type sources struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// HuggingFaceEndpoint and OllamaEndpoint are the hubs or mirrors of them.
	HuggingFaceEndpoint string `json:"huggingFaceEndpoint,omitempty"`
	OllamaEndpoint      string `json:"ollamaEndpoint,omitempty"`
	// AllowHosts are hosts beside the public hubs; NoDefaultHosts takes those away.
	AllowHosts     []string `json:"allowHosts,omitempty"`
	NoDefaultHosts bool     `json:"noDefaultHosts,omitempty"`
	// AllowCIDRs are ranges that may be dialled though they are not public, DenyCIDRs those that may not.
	AllowCIDRs []string `json:"allowCIDRs,omitempty"`
	DenyCIDRs  []string `json:"denyCIDRs,omitempty"`
	// ModelRoots are the mounted model stores.
	ModelRoots []string `json:"modelRoots,omitempty"`
	// Credentials are the tokens of hosts, in files of mounted Secrets.
	Credentials []modelsource.TokenFile `json:"credentials,omitempty"`
}

// readConfig reads a configuration file. Unknown fields are an error: a misspelt denyCIDRs would deny nothing.
func readConfig(path string) (*sources, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	s := &sources{}
	if err := yaml.UnmarshalStrict(data, s); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	if s.APIVersion != berthv1alpha1.GroupVersion.String() || s.Kind != configKind {
		return nil, fmt.Errorf("configuration %s: want apiVersion %s and kind %s, got %q and %q",
			path, berthv1alpha1.GroupVersion, configKind, s.APIVersion, s.Kind)
	}
	return s, nil
}

// resolver makes the resolver that the sources describe. All that is wrong with them is said at once.
func (s *sources) resolver(userAgent string) (*modelsource.Resolver, error) {
	hosts := s.AllowHosts
	if !s.NoDefaultHosts {
		hosts = append(append([]string{}, modelsource.DefaultHosts...), hosts...)
	}
	var endpoints []string
	for _, e := range []string{s.HuggingFaceEndpoint, s.OllamaEndpoint} {
		// The public hubs are on the list of hosts, and not trusted beyond it: what they redirect to, and the
		// addresses of their names, are theirs to choose.
		if e != "" && e != modelsource.DefaultHuggingFaceEndpoint && e != modelsource.DefaultOllamaEndpoint {
			endpoints = append(endpoints, e)
		}
	}
	policy, policyErr := modelsource.NewPolicy(endpoints, hosts, s.AllowCIDRs, s.DenyCIDRs)
	credentials, credentialsErr := modelsource.FileCredentials(s.Credentials)
	errs := []error{policyErr, credentialsErr}
	for _, root := range s.ModelRoots {
		if !filepath.IsAbs(root) {
			errs = append(errs, fmt.Errorf("model root %q: want an absolute path", root))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return modelsource.NewResolver(modelsource.Config{
		HuggingFaceEndpoint: s.HuggingFaceEndpoint,
		OllamaEndpoint:      s.OllamaEndpoint,
		Policy:              policy,
		Credentials:         credentials,
		Roots:               s.ModelRoots,
		Discreet:            true,
		UserAgent:           userAgent,
	})
}
