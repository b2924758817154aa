// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/estimator"
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

// manifest writes the Deployment that a form stands for. Its container does what Berth asks of one, so that it is booked as a pod
// would be that is written by the documentation; what else a server needs is not in it.
func (f *Form) manifest() (string, error) {
	if f.Model == "" && f.GPUMemory == "" {
		return "", errors.New("say the model, or the GPU memory")
	}
	name := cmp.Or(f.Name, "what-if")
	labels := map[string]string{"app": name}
	annotations := map[string]string{}
	for key, value := range map[string]string{
		berthv1alpha1.AnnotationModel: f.Model, berthv1alpha1.AnnotationGPUMemory: f.GPUMemory, berthv1alpha1.AnnotationRuntime: f.Runtime,
		berthv1alpha1.AnnotationGPUCount: f.GPUCount, berthv1alpha1.AnnotationContextLength: f.ContextLength,
		berthv1alpha1.AnnotationParallel: f.Parallel, berthv1alpha1.AnnotationKVCacheType: f.KVCacheType,
	} {
		if value != "" {
			annotations[key] = value
		}
	}
	replicas := cmp.Or(f.Replicas, 1)
	text, err := yaml.Marshal(appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: f.Namespace},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
				Spec: corev1.PodSpec{
					SchedulerName: berthv1alpha1.SchedulerName,
					Containers:    []corev1.Container{{Name: "server", Image: "model-server", Args: argsFor(berthv1alpha1.Runtime(f.Runtime))}},
				},
			},
		},
	})
	return string(text), err
}

// argsFor returns the arguments by which an engine follows what was decided for it.
func argsFor(runtime berthv1alpha1.Runtime) []string {
	engine := estimator.EngineOf(runtime)
	if engine.Share == nil || engine.Share.Variable == "" {
		return nil
	}
	return []string{
		fmt.Sprintf("--tensor-parallel-size=$(%s)", berthv1alpha1.EnvTensorParallelSize),
		fmt.Sprintf("%s=$(%s)", engine.Share.Flag, engine.Share.Variable),
	}
}
