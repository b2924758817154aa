// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/lab/gpusim"
	"github.com/berth-dev/berth/pkg/lab/kwok"
)

// failedGPU is the state of a node of the fleet that the tour adds: one of its GPUs has failed.
var failedGPU = map[string]string{"h100": "7=Xid79"}

// wave is Deployments that are applied at once.
type wave struct {
	title string
	// load is how long their pods load their model.
	load      time.Duration
	workloads []workload
}

// workload is a Deployment: one of the examples, patched as a user would with kustomize.
type workload struct {
	// example is the file in manifests/examples; name is the Deployment's.
	example, name string
	replicas      int32
	// memory and counts replace the request's, unless empty.
	memory, counts string
	// gpus is the number of GPUs that each pod has to get; zero if there is no room for it.
	gpus int
	// reason is why there is no room for it.
	reason alloc.Reason
}

// tour is what is applied, made for the fleet "demo": 8 GPUs of 80 GB (one has failed), 4 of 40 GB, 2 of 48 GB, and 2
// of 48 GB of which one is mostly in use by a process outside of Kubernetes.
var tour = []wave{
	{
		title: "vLLM on 1, 2 or 4 GPUs, as few as will do", load: 2 * time.Second,
		workloads: []workload{
			{example: "vllm.yaml", name: "llama-70b", replicas: 1, memory: "150Gi", counts: "1,2,4", gpus: 2},
			{example: "vllm.yaml", name: "qwen-32b", replicas: 2, gpus: 1},
			{example: "vllm.yaml", name: "codestral-22b", replicas: 1, memory: "52Gi", gpus: 1},
			{example: "vllm.yaml", name: "qwen-14b", replicas: 1, memory: "36Gi", gpus: 1},
		},
	},
	{
		title: "Ollama and llama.cpp", load: time.Second,
		workloads: []workload{
			{example: "ollama.yaml", name: "llama-8b", replicas: 3, gpus: 1},
			{example: "ollama.yaml", name: "gemma-27b", replicas: 1, memory: "20Gi", gpus: 1},
			{example: "llama-cpp.yaml", name: "llama-70b-q4", replicas: 1, gpus: 1},
			{example: "llama-cpp.yaml", name: "mistral-123b-q4", replicas: 1, memory: "74Gi", gpus: 1},
		},
	},
	{
		title: "small ones beside them, and two for which there is no room", load: time.Second,
		workloads: []workload{
			{example: "custom.yaml", name: "embeddings", replicas: 4, gpus: 1},
			{example: "custom.yaml", name: "whisper", replicas: 1, memory: "6Gi", gpus: 1},
			{
				example: "vllm.yaml", name: "deepseek-70b", replicas: 1, memory: "160Gi", counts: "1,2,4",
				reason: gpustate.ReasonInsufficientMemory,
			},
			{
				example: "vllm.yaml", name: "llama-405b", replicas: 1, memory: "810Gi", counts: "4,8",
				reason: gpustate.ReasonNothingEverFits,
			},
		},
	},
}

// deployment returns the example with the workload's patches.
func (w *workload) deployment(load time.Duration) (*appsv1.Deployment, error) {
	objects, err := manifests.Objects("examples/" + w.example)
	if err != nil {
		return nil, err
	}
	if len(objects) == 0 || objects[0].GetKind() != "Deployment" {
		return nil, fmt.Errorf("examples/%s does not begin with a Deployment", w.example)
	}
	d := &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects[0].Object, d); err != nil {
		return nil, fmt.Errorf("examples/%s: %w", w.example, err)
	}
	d.Namespace, d.Name, d.Spec.Replicas = corev1.NamespaceDefault, w.name, &w.replicas
	for _, labels := range []map[string]string{d.Labels, d.Spec.Selector.MatchLabels, d.Spec.Template.Labels} {
		labels["app"] = w.name
	}
	annotations := d.Spec.Template.Annotations
	if w.memory != "" {
		annotations[berthv1alpha1.AnnotationGPUMemory] = w.memory
	}
	if w.counts != "" {
		annotations[berthv1alpha1.AnnotationGPUCount] = w.counts
	}
	annotations[kwok.AnnotationReadyAfter] = load.String()
	return d, nil
}

// fail adds the tour's failures to the fleet.
func fail(nodes []*corev1.Node) {
	for _, node := range nodes {
		if reason, ok := failedGPU[node.Name]; ok {
			node.Annotations[gpusim.AnnotationUnhealthy] = reason
		}
	}
}

func (w *workload) String() string {
	if w.replicas == 1 {
		return w.name
	}
	return w.name + " x" + strconv.Itoa(int(w.replicas))
}
