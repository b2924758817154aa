// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package warm

import (
	"encoding/hex"
	"hash/fnv"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Loads is what a pod loads, as far as its specification tells.
type Loads struct {
	// Key is equal for pods that load the same, and different for others; empty = nobody can tell.
	Key string
	// Noun names it for people: "model", "set of image volumes" or "workload".
	Noun string
	// Images are the references of the pod's image volumes, as a node lists them.
	Images []string
}

// LoadsOf returns what a pod loads: the model that it names; else its image volumes, all of them; else, for a pod that only says
// how much it needs, what its workload runs. model is empty for a pod that names none.
//
// Of a workload, pods load the same if their commands, arguments and variables are the same: what an engine loads is said there.
// Their images may differ, since a new version of an engine loads the same files.
func LoadsOf(pod *corev1.Pod, model string) Loads {
	images := imageVolumes(pod)
	switch {
	case model != "":
		return Loads{Key: "model " + model, Noun: "model", Images: images}
	case len(images) > 0:
		return Loads{Key: "images " + strings.Join(images, " "), Noun: "set of image volumes", Images: images}
	}
	if workload := gpustate.WorkloadOf(pod); workload != "" {
		return Loads{Key: "workload " + pod.Namespace + "/" + workload + " " + commands(pod), Noun: "workload"}
	}
	return Loads{}
}

// imageVolumes returns the references of a pod's image volumes, each once, in order.
func imageVolumes(pod *corev1.Pod) (references []string) {
	for i := range pod.Spec.Volumes {
		if image := pod.Spec.Volumes[i].Image; image != nil && image.Reference != "" {
			references = append(references, listedAs(image.Reference))
		}
	}
	slices.Sort(references)
	return slices.Compact(references)
}

// listedAs returns the name by which a node lists an image, as kube-scheduler's ImageLocality (v1.37) has it.
func listedAs(reference string) string {
	if strings.LastIndex(reference, ":") <= strings.LastIndex(reference, "/") {
		return reference + ":latest"
	}
	return reference
}

// commands stands for what the containers that get the GPUs run, but for their images.
func commands(pod *corev1.Pod) string {
	names, err := berthv1alpha1.GPUContainers(pod)
	if err != nil {
		return ""
	}
	h := fnv.New128a()
	say := func(words ...string) {
		for _, w := range words {
			_, _ = io.WriteString(h, w) // a hash takes everything
			_, _ = h.Write([]byte{0})
		}
		_, _ = h.Write([]byte{1})
	}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			c := &list[i]
			if !slices.Contains(names, c.Name) {
				continue
			}
			say(c.Command...)
			say(c.Args...)
			for _, v := range c.Env {
				say(v.Name, v.Value)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
