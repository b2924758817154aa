// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/berthclient"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/modelfile"
)

// load reads the model that the command line names.
func (o *estimateOptions) load(ctx context.Context) (*estimator.Model, error) {
	model, err := o.loadModel(ctx)
	if err != nil || o.projector == "" {
		return model, err
	}
	projector, err := modelfile.ReadPath(o.projector)
	if err != nil {
		return nil, fmt.Errorf("--mmproj: %w", err)
	}
	if projector.Vision == nil {
		return nil, fmt.Errorf("--mmproj: %s has no image tower", o.projector)
	}
	model = model.DeepCopy()
	model.Vision = projector.Vision
	return model, nil
}

func (o *estimateOptions) loadModel(ctx context.Context) (*estimator.Model, error) {
	switch {
	case o.config != "" && o.model != "":
		return nil, errors.New("give either MODEL or --config")
	case o.config != "":
		return o.loadConfig()
	case o.model == "":
		return nil, errors.New("name a model: a GGUF file, a folder, the source of a ModelProfile, or --config config.json")
	}
	if scheme, rest, ok := strings.Cut(o.model, "://"); ok {
		if scheme == "file" {
			return modelfile.ReadPath(rest)
		}
		return o.loadProfile(ctx)
	}
	return modelfile.ReadPath(o.model)
}

// loadConfig reads a configuration alone; the weights beside it, if any, are not looked at.
func (o *estimateOptions) loadConfig() (*estimator.Model, error) {
	dir, name := filepath.Dir(o.config), filepath.Base(o.config)
	if o.quantConfig != "" {
		return modelfile.ReadConfigs(o.config, o.quantConfig)
	}
	quant := strings.TrimSuffix(name, modelfile.ConfigName) + modelfile.QuantConfigName
	return modelfile.ReadConfig(modelfile.Dir(dir), name, quant)
}

// loadProfile looks a source up among the cluster's ModelProfiles: only the controller talks to model hubs.
func (o *estimateOptions) loadProfile(ctx context.Context) (*estimator.Model, error) {
	config, err := o.restConfig()
	if err != nil {
		return nil, fmt.Errorf("%s is looked up among the ModelProfiles of the cluster, which cannot be asked: %w\n"+
			"Without a cluster, name a local file or folder, or download config.json and give --config", o.model, err)
	}
	client, err := berthclient.New(config)
	if err != nil {
		return nil, err
	}
	name := berthv1alpha1.ModelProfileName(o.model)
	profile := &berthv1alpha1.ModelProfile{}
	err = client.Get().Resource("modelprofiles").Name(name).Do(ctx).Into(profile)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("the cluster has no ModelProfile of %s: name a local file, or create ModelProfile %q with spec.source %s",
			o.model, name, o.model)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is looked up among the ModelProfiles of the cluster, which cannot be asked: %w\n"+
			"Without a cluster, name a local file or folder, or download config.json and give --config", o.model, err)
	}
	if profile.Status.Model == nil {
		why := "it has not been read yet"
		if c := meta.FindStatusCondition(profile.Status.Conditions, "Ready"); c != nil {
			why = c.Message
		}
		return nil, fmt.Errorf("ModelProfile %s is not resolved: %s", name, why)
	}
	return profile.Status.Model, nil
}
