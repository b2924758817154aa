// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package whatif

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/simulator/admission"
)

// Models is a short list of models, for whoever has no manifests yet: a file with the one field models.
type Models struct {
	Models []Model `json:"models"`
}

// Model is a server of a model, in so many replicas. What is not said is the engine's default, as in a pod.
type Model struct {
	Name string `json:"name"`
	// Model is a source as pods name it, or a file or folder, from where the list is.
	Model string `json:"model"`
	// GPUMemory, Runtime, GPUCount, ContextLength, Parallel and KVCacheType are the annotations of a pod.
	GPUMemory     string `json:"gpuMemory"`
	Runtime       string `json:"runtime"`
	GPUCount      any    `json:"gpuCount"`
	ContextLength int64  `json:"contextLength"`
	Parallel      int64  `json:"parallel"`
	KVCacheType   string `json:"kvCacheType"`
	// Replicas is how many pods there are; absent = 1.
	Replicas *int32 `json:"replicas"`
	// CPU and Memory are what a pod requests of its node.
	CPU    *resource.Quantity `json:"cpu"`
	Memory *resource.Quantity `json:"memory"`
	// Args are further arguments of the engine, which its memory may depend on.
	Args []string `json:"args"`
}

// readModels reads a file as a list of models. It is none if its one document has no field of that name. Files of models are looked
// for from a folder; without one, the list may name none.
func readModels(text []byte, folder string) (pods []*corev1.Pod, is bool, err error) {
	var fields map[string]any
	if yaml.Unmarshal(text, &fields) != nil || fields["models"] == nil || fields["kind"] != nil {
		return nil, false, nil
	}
	var list Models
	if err := yaml.UnmarshalStrict(text, &list); err != nil {
		return nil, true, err
	}
	named := map[string]bool{}
	for i := range list.Models {
		m := &list.Models[i]
		made, err := m.pods(folder)
		if err == nil && named[m.Name] {
			err = errors.New("the name is used twice: give each model a name of its own")
		}
		if err == nil && len(pods)+len(made) > maxPods {
			err = errTooMany
		}
		if err != nil {
			return nil, true, fmt.Errorf("models[%d] %s: %w", i, m.Name, err)
		}
		named[m.Name] = true
		pods = append(pods, made...)
	}
	return pods, true, nil
}

var notOfNames = regexp.MustCompile(`[^a-z0-9]+`)

// pods returns the pods that a Deployment of the model would have, whose engine is told what it was promised.
func (m *Model) pods(folder string) ([]*corev1.Pod, error) {
	if m.Name == "" {
		base := strings.TrimSuffix(path.Base(m.Model), path.Ext(m.Model))
		m.Name = strings.Trim(notOfNames.ReplaceAllString(strings.ToLower(base), "-"), "-")
	}
	if m.Name == "" {
		return nil, errors.New("name it, or its model")
	}
	if m.Replicas != nil && *m.Replicas < 0 {
		return nil, fmt.Errorf("replicas is %d", *m.Replicas)
	}
	if m.Replicas != nil && *m.Replicas > maxPods {
		return nil, errTooMany
	}
	source, err := m.source(folder)
	if err != nil {
		return nil, err
	}
	deployment := Serving(m.Name, m.Replicas, map[string]string{
		berthv1alpha1.AnnotationModel: source, berthv1alpha1.AnnotationGPUMemory: m.GPUMemory,
		berthv1alpha1.AnnotationRuntime:  cmp.Or(m.Runtime, m.usualRuntime()),
		berthv1alpha1.AnnotationGPUCount: textOf(m.GPUCount), berthv1alpha1.AnnotationContextLength: number(m.ContextLength),
		berthv1alpha1.AnnotationParallel: number(m.Parallel), berthv1alpha1.AnnotationKVCacheType: m.KVCacheType,
	}, m.Args...)
	server := &deployment.Spec.Template.Spec.Containers[0]
	server.Resources.Requests = corev1.ResourceList{}
	for name, q := range map[corev1.ResourceName]*resource.Quantity{corev1.ResourceCPU: m.CPU, corev1.ResourceMemory: m.Memory} {
		if q != nil {
			server.Resources.Requests[name] = *q
		}
	}
	made, _, err := admission.PodsOf(deployment, "default")
	if err != nil {
		return nil, err
	}
	if len(made) > 0 {
		if _, err := berthv1alpha1.ParsePodRequest(made[0]); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// source returns the model's URI.
func (m *Model) source(folder string) (string, error) {
	switch {
	case m.Model == "" && m.GPUMemory == "":
		return "", errors.New("it has neither model nor gpuMemory: say what is loaded, or how much memory it needs")
	case m.Model == "" || strings.Contains(m.Model, "://"):
		return m.Model, nil
	case folder == "":
		return "", fmt.Errorf("model %q is no source, such as hf://ORG/REPO, and files are not read here", m.Model)
	}
	file := m.Model
	if !filepath.IsAbs(file) {
		file = filepath.Join(folder, file)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("model %q is neither a source, such as hf://ORG/REPO, nor a file: %w", m.Model, err)
	}
	return "file://" + file, nil
}

// usualRuntime is the engine that people run files of the model's format with.
func (m *Model) usualRuntime() string {
	switch {
	case m.Model == "":
		return ""
	case strings.HasPrefix(m.Model, "ollama://"):
		return string(berthv1alpha1.RuntimeOllama)
	case strings.HasSuffix(strings.ToLower(m.Model), ".gguf"):
		return string(berthv1alpha1.RuntimeLlamaCpp)
	}
	return string(berthv1alpha1.RuntimeVLLM)
}

// textOf writes a value that YAML may have read as a number.
func textOf(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
