// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/redact"
	"github.com/berth-dev/berth/pkg/berthclient"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/modelfile"
	"github.com/berth-dev/berth/pkg/modelsource"
)

// modelReader reads the model that a command line names.
type modelReader struct {
	genericiooptions.IOStreams
	restConfig func() (*rest.Config, error)

	model       string
	config      string
	quantConfig string
	projector   string
}

// load reads the model.
func (o *modelReader) load(ctx context.Context) (*estimator.Model, error) {
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

func (o *modelReader) loadModel(ctx context.Context) (*estimator.Model, error) {
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
		if redact.HasSecret(o.model) {
			return nil, fmt.Errorf("%s: %s", redact.URI(o.model), redact.Why)
		}
		return o.loadSource(ctx)
	}
	return modelfile.ReadPath(o.model)
}

// loadConfig reads a configuration alone; the weights beside it, if any, are not looked at.
func (o *modelReader) loadConfig() (*estimator.Model, error) {
	dir, name := filepath.Dir(o.config), filepath.Base(o.config)
	if o.quantConfig != "" {
		return modelfile.ReadConfigs(o.config, o.quantConfig)
	}
	quant := strings.TrimSuffix(name, modelfile.ConfigName) + modelfile.QuantConfigName
	return modelfile.ReadConfig(modelfile.Dir(dir), name, quant)
}

// loadSource looks a source up among the ModelProfiles of the cluster. Without a cluster that answers, or where it has
// none of the source, the headers are read from the source itself.
func (o *modelReader) loadSource(ctx context.Context) (*estimator.Model, error) {
	model, missing, err := o.loadProfile(ctx)
	if err == nil || missing == "" {
		return model, err
	}
	if ref, parseErr := modelsource.Parse(o.model); parseErr != nil {
		return nil, parseErr
	} else if _, named := ref.(modelsource.ProfileRef); named {
		return nil, err
	}
	fmt.Fprintf(o.ErrOut, "%s: the source itself is asked.\n", missing)
	model, hubErr := o.fromHub(ctx)
	if hubErr != nil {
		return nil, fmt.Errorf("%w\n%s; name a local file or folder, or download config.json and give --config", hubErr, missing)
	}
	return model, nil
}

// profileTimeout bounds the wait for a cluster: one that is gone must not keep people from the hub.
const profileTimeout = 10 * time.Second

// loadProfile returns the model of a ModelProfile. missing says that there is no profile to be had, and why; the source
// may then be asked itself.
func (o *modelReader) loadProfile(ctx context.Context) (model *estimator.Model, missing string, err error) {
	ctx, cancel := context.WithTimeout(ctx, profileTimeout)
	defer cancel()
	name := berthv1alpha1.ModelProfileName(o.model)
	profile := &berthv1alpha1.ModelProfile{}
	config, err := o.restConfig()
	if err == nil {
		var client rest.Interface
		if client, err = berthclient.New(config); err == nil {
			for _, name = range berthv1alpha1.ModelProfileNames(o.model) {
				profile = &berthv1alpha1.ModelProfile{}
				err = client.Get().Resource("modelprofiles").Name(name).Do(ctx).Into(profile)
				if err == nil && !profile.IsOf(o.model) {
					err = apierrors.NewNotFound(berthv1alpha1.GroupVersion.WithResource("modelprofiles").GroupResource(), name)
				}
				if !apierrors.IsNotFound(err) {
					break
				}
			}
		}
	}
	var status apierrors.APIStatus
	switch {
	case apierrors.IsNotFound(err):
		return nil, "The cluster has no ModelProfile of " + o.model, fmt.Errorf("the cluster has no ModelProfile %q: %w", name, err)
	case err != nil && !errors.As(err, &status):
		return nil, "No cluster could be asked", fmt.Errorf("ask the cluster for ModelProfile %s: %w", name, err)
	case err != nil:
		return nil, "", fmt.Errorf("get ModelProfile %s: %w", name, err)
	}
	if profile.Status.Model == nil {
		why := "it has not been read yet"
		if c := meta.FindStatusCondition(profile.Status.Conditions, "Ready"); c != nil {
			why = c.Message
		}
		return nil, "", fmt.Errorf("ModelProfile %s is not resolved: %s", name, why)
	}
	return profile.Status.Model, "", nil
}
