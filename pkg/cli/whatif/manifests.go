// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package whatif

import (
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/berth-dev/berth/pkg/simulator/admission"
)

// Manifests are where manifests are read from.
type Manifests struct {
	// Files are files, folders and URLs; "-" is Stdin. Kustomize is a folder with a kustomization; empty = none.
	Files     []string
	Kustomize string
	Stdin     io.Reader
}

// Read returns the pods of manifests, and the kinds of objects that have none. namespace is that of objects that name none.
func (m *Manifests) Read(namespace string) (pods []*corev1.Pod, others []string, err error) {
	builder := resource.NewLocalBuilder().Unstructured().ContinueOnError().Flatten()
	options := resource.FilenameOptions{Kustomize: m.Kustomize}
	for _, file := range m.Files {
		if file == "-" {
			builder = builder.Stream(m.Stdin, "stdin")
			continue
		}
		options.Filenames = append(options.Filenames, file)
	}
	if len(options.Filenames) > 0 || m.Kustomize != "" {
		builder = builder.FilenameParam(false, &options)
	}
	err = builder.Do().Visit(func(info *resource.Info, err error) error {
		if err != nil {
			return err
		}
		object, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("%s: no object", info.Source)
		}
		kind := object.GetKind()
		typed, err := typedOf(object)
		if runtime.IsNotRegisteredError(err) {
			others = append(others, kind)
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %s %s: %w", info.Source, kind, object.GetName(), err)
		}
		made, err := admission.PodsOf(typed, namespace)
		if admission.HasNoPods(err) {
			others = append(others, kind)
			return nil
		}
		pods = append(pods, made...)
		return err
	})
	if err == nil && len(pods) == 0 {
		err = errors.New("the manifests have no pods, and nothing that makes pods (Deployment, StatefulSet, ReplicaSet, Job)")
	}
	return pods, others, err
}

// typedOf converts an object, and refuses fields that its kind does not have.
func typedOf(object *unstructured.Unstructured) (runtime.Object, error) {
	typed, err := scheme.Scheme.New(object.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	return typed, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, typed, true)
}
