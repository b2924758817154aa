// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/replay"
	"github.com/berth-dev/berth/pkg/replay/fgd"
	"github.com/berth-dev/berth/pkg/simulator/admission"
)

const (
	// perMilli is the memory of one milli of a GPU: the least that a pod may ask for.
	perMilli = 64 << 20
	// modelLabel is the label by which pods choose between models of GPUs: that of GPU feature discovery.
	modelLabel = "nvidia.com/gpu.product"
	namespace  = "replay"
)

// nodeName names the node with an index so that the order of names is that of the nodes.
func nodeName(index int, n *replay.Node) string { return fmt.Sprintf("%06d-%s", index, n.Name) }

// deviceUUID names the GPU with an index of a node so that the order of names is that of the GPUs.
func deviceUUID(node string, index int) string { return fmt.Sprintf("GPU-%s-%02d", node, index) }

// labelOf is a model as a label has it: blanks are replaced, as GPU feature discovery does.
func labelOf(model string) string { return strings.ReplaceAll(model, " ", "-") }

// nodeObjects returns what a cluster has of a node: the node, and the report of its agent.
func nodeObjects(index int, n *replay.Node) ([]runtime.Object, error) {
	name := nodeName(index, n)
	if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
		return nil, fmt.Errorf("%q cannot be the name of a node: %s", n.Name, msgs[0])
	}
	if msgs := validation.IsValidLabelValue(labelOf(n.Model)); len(msgs) > 0 {
		return nil, fmt.Errorf("node %s: %q cannot be the model of its GPUs: %s", n.Name, n.Model, msgs[0])
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{
		corev1.LabelHostname: name, modelLabel: labelOf(n.Model),
	}}}
	node.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(n.CPU, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(n.Memory<<20, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(replay.PodsPerNode, resource.DecimalSI),
	}
	node.Status.Allocatable = node.Status.Capacity
	report := &gpunode.Object{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("gpunode-" + name)}, Status: &berthv1alpha1.GPUNodeStatus{},
	}
	for g := range n.GPUs {
		report.Status.Devices = append(report.Status.Devices, berthv1alpha1.GPUDevice{
			UUID: deviceUUID(name, g), Index: int32(g), Model: n.Model, Health: berthv1alpha1.DeviceHealthy,
			Memory: berthv1alpha1.GPUMemory{Total: *resource.NewQuantity(fgd.Whole*perMilli, resource.BinarySI)},
		})
	}
	return []runtime.Object{node, report}, nil
}

// runtimeClass returns what hands GPUs to containers: the policies have pods name it.
func runtimeClass() *nodev1.RuntimeClass {
	return &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "nvidia"}, Handler: "nvidia"}
}

// templates are pods of each request of a trace, as an apiserver with Berth's policies stores them.
type templates map[template]*corev1.Pod

// template is what a pod is made after.
type template struct {
	fgd.Request
	memory int64
}

func templateOf(pod *replay.Pod) template { return template{pod.Request, pod.Memory} }

func newTemplates(ctx context.Context, t *replay.Trace) (templates, error) {
	admitter, err := admission.New([]runtime.Object{runtimeClass()})
	if err != nil {
		return nil, err
	}
	all := templates{}
	for i := range t.Pods {
		key := templateOf(&t.Pods[i])
		if all[key] != nil {
			continue
		}
		if all[key], err = admitter.Admit(ctx, podOf(&t.Pods[i])); err != nil {
			return nil, fmt.Errorf("pod %s: %w", t.Pods[i].Name, err)
		}
	}
	return all, nil
}

// podOf returns a pod as a user would write it.
func podOf(p *replay.Pod) *corev1.Pod {
	never := corev1.PreemptNever
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace},
		Spec: corev1.PodSpec{
			SchedulerName: berthv1alpha1.SchedulerName, PreemptionPolicy: &never,
			Containers: []corev1.Container{{Name: "server", Image: "example.test/server:1", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{
					corev1.ResourceCPU:    *resource.NewMilliQuantity(p.CPU, resource.DecimalSI),
					corev1.ResourceMemory: *resource.NewQuantity(p.Memory<<20, resource.BinarySI),
				},
			}}},
		},
	}
	if p.GPUs == 0 {
		return pod
	}
	pod.Annotations = map[string]string{
		berthv1alpha1.AnnotationGPUMemory: resource.NewQuantity(p.Total()*perMilli, resource.BinarySI).String(),
		berthv1alpha1.AnnotationGPUCount:  fmt.Sprint(p.GPUs),
	}
	if p.Models != "" {
		var values []string
		for _, model := range strings.Split(p.Models, "|") {
			values = append(values, labelOf(model))
		}
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: modelLabel, Operator: corev1.NodeSelectorOpIn, Values: values},
			}}},
		}}}
	}
	return pod
}
