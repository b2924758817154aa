// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet makes the Nodes of a lab: alike ones by number, or those of a file. A Node's GPUs are said by its
// annotations; see package gpusim.
package fleet

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/berth-dev/berth/pkg/gpumodel"
	"github.com/berth-dev/berth/pkg/lab/gpusim"
)

// Demo is the name of the fleet that is built in.
const Demo = "demo"

//go:embed demo.yaml
var demo []byte

// Uniform returns n nodes, gpu-0 and so on, of some GPUs of one model each.
func Uniform(n, gpus int, model string) ([]*corev1.Node, error) {
	if n < 0 || gpus < 1 {
		return nil, fmt.Errorf("%d nodes of %d GPUs: want no fewer than 0 nodes of 1 GPU", n, gpus)
	}
	m, err := gpumodel.Find(model)
	if err != nil {
		return nil, err
	}
	nodes := make([]*corev1.Node, n)
	for i := range nodes {
		nodes[i] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:        fmt.Sprintf("gpu-%d", i),
			Annotations: map[string]string{gpusim.AnnotationGPUs: fmt.Sprintf("%dx%s", gpus, m.Short)},
		}}
		if err := complete(nodes[i]); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// Load returns the nodes of a file of Node objects, or of the built-in fleet of that name.
func Load(name string) ([]*corev1.Node, error) {
	text := demo
	if name != Demo {
		var err error
		if text, err = os.ReadFile(name); err != nil {
			return nil, fmt.Errorf("fleet: %w (the built-in one is %q)", err, Demo)
		}
	}
	nodes, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("fleet %s: %w", name, err)
	}
	return nodes, nil
}

func parse(text []byte) ([]*corev1.Node, error) {
	var nodes []*corev1.Node
	documents, err := split(text)
	if err != nil {
		return nil, err
	}
	for _, document := range documents {
		node := &corev1.Node{}
		if err := sigsyaml.UnmarshalStrict(document, node); err != nil {
			return nil, err
		}
		if node.Kind != "Node" || node.Name == "" {
			return nil, fmt.Errorf("%s %q is not a Node with a name", node.Kind, node.Name)
		}
		if err := complete(node); err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// split returns the documents of a YAML file that hold anything.
func split(text []byte) ([][]byte, error) {
	var documents [][]byte
	for reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(document)) > 0 {
			documents = append(documents, document)
		}
	}
}

// complete gives a node the labels and the size that nodes of its kind have, unless it says so itself.
func complete(node *corev1.Node) error {
	if _, ok := node.Annotations[gpusim.AnnotationGPUs]; ok {
		if _, err := gpusim.ParseSpec(node.Annotations); err != nil {
			return fmt.Errorf("node %s: %w", node.Name, err)
		}
	}
	if node.Labels == nil {
		node.Labels = map[string]string{}
	}
	for key, value := range map[string]string{
		corev1.LabelHostname: node.Name, corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux",
	} {
		if _, ok := node.Labels[key]; !ok {
			node.Labels[key] = value
		}
	}
	if node.Status.Capacity == nil {
		node.Status.Capacity = corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("128"),
			corev1.ResourceMemory: resource.MustParse("1Ti"),
			corev1.ResourcePods:   resource.MustParse("250"),
		}
	}
	if node.Status.Allocatable == nil {
		node.Status.Allocatable = node.Status.Capacity.DeepCopy()
	}
	return nil
}
