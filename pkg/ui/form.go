// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"errors"
	"strings"

	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/cli/whatif"
)

// question reads a question. namespace is that of what names none.
func (q *Question) question(namespace string) (*whatif.Question, error) {
	out, err := q.Changes.Question()
	if err != nil {
		return nil, err
	}
	text := q.Manifest
	switch {
	case q.Form != nil && text != "":
		return nil, errors.New("give a manifest or a form, not both")
	case q.Form != nil:
		if text, err = q.Form.manifest(); err != nil {
			return nil, err
		}
	case text == "":
		return out, nil
	}
	// Of the text alone: nothing in it names a file or an address that would be read.
	manifests := whatif.Manifests{FilenameOptions: resource.FilenameOptions{Filenames: []string{"-"}}, Stdin: strings.NewReader(text), NoFiles: true}
	return out, manifests.AddTo(out, cmp.Or(q.Namespace, namespace))
}

// manifest writes the Deployment that a form stands for.
func (f *Form) manifest() (string, error) {
	if f.Model == "" && f.GPUMemory == "" {
		return "", errors.New("say the model, or the GPU memory")
	}
	replicas := cmp.Or(f.Replicas, 1)
	deployment := whatif.Serving(cmp.Or(f.Name, "what-if"), &replicas, map[string]string{
		berthv1alpha1.AnnotationModel: f.Model, berthv1alpha1.AnnotationGPUMemory: f.GPUMemory, berthv1alpha1.AnnotationRuntime: f.Runtime,
		berthv1alpha1.AnnotationGPUCount: f.GPUCount, berthv1alpha1.AnnotationContextLength: f.ContextLength,
		berthv1alpha1.AnnotationParallel: f.Parallel, berthv1alpha1.AnnotationKVCacheType: f.KVCacheType,
	})
	deployment.Namespace = f.Namespace
	text, err := yaml.Marshal(deployment)
	return string(text), err
}
