// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// object is one of the API server's.
type object = map[string]any

// cluster collects the objects of a snapshot, as kubectl berth snapshot writes them.
type cluster struct {
	now   time.Time
	items []any
	// used and processes are what is measured of each GPU.
	used      map[string]int64
	processes map[string][]any
	pods      int
}

const (
	gi = int64(1) << 30
	// qwen is a model whose size is known, and private one whose size is not.
	qwen    = "hf://Qwen/Qwen2.5-7B-Instruct-GGUF/qwen2.5-7b-instruct-q8_0.gguf"
	private = "hf://acme/private-13b"
)

func newCluster() *cluster {
	c := &cluster{now: time.Date(2026, 11, 25, 9, 30, 0, 0, time.UTC), used: map[string]int64{}, processes: map[string][]any{}}
	config, err := os.ReadFile("../../manifests/scheduler/config.yaml")
	if err != nil {
		panic(err)
	}
	c.items = append(c.items, object{"kind": "Snapshot", "apiVersion": "cli.berth.dev/v1alpha1", "time": c.time(0), "schedulerConfiguration": string(config)})
	c.add("node.k8s.io/v1", "RuntimeClass", object{"name": "nvidia"}, object{"handler": "nvidia"})
	return c
}

// time is so long before the snapshot was made.
func (c *cluster) time(before time.Duration) string {
	return c.now.Add(-before).Format("2006-01-02T15:04:05.000000Z07:00")
}

func (c *cluster) seconds(before time.Duration) string {
	return c.now.Add(-before).Format(time.RFC3339)
}

func (c *cluster) add(version, kind string, metadata object, fields object) {
	metadata["uid"] = fmt.Sprintf("00000000-0000-0000-0000-%012d", len(c.items))
	metadata["creationTimestamp"] = c.seconds(48 * time.Hour)
	o := object{"apiVersion": version, "kind": kind, "metadata": metadata}
	for name, value := range fields {
		o[name] = value
	}
	c.items = append(c.items, o)
}

// gpu is the identity of a GPU.
func gpu(node string, index int) string { return fmt.Sprintf("GPU-%s-%d", node, index) }

// pod is a pod of Berth's.
type pod struct {
	namespace, name string
	// node and gpus are where it is; without, it waits. memory is what it books of each GPU in GiB, and holds what is measured.
	node          string
	gpus          []int
	memory, holds int64
	annotations   map[string]string
	// idle is for how long it has computed nothing, and started how long ago it started.
	idle, started time.Duration
	loading       bool
	priority      int
	message       string
}

func (c *cluster) pod(p pod) {
	c.pods++
	uid := fmt.Sprintf("10000000-0000-0000-0000-%012d", c.pods)
	annotations := map[string]string{"berth.dev/gpu-memory": fmt.Sprintf("%dGi", p.memory*int64(max(1, len(p.gpus)))), "berth.dev/gpu-count": strconv.Itoa(max(1, len(p.gpus)))}
	for name, value := range p.annotations {
		annotations[name] = value
	}
	if p.started == 0 {
		p.started = 26 * time.Hour
	}
	status := object{"phase": "Pending", "conditions": []any{}}
	if p.node != "" {
		var devices []any
		for _, i := range p.gpus {
			id := gpu(p.node, i)
			devices = append(devices, object{"uuid": id, "memory": strconv.FormatInt(p.memory*gi, 10)})
			process := object{"podUID": uid, "memory": strconv.FormatInt(p.holds*gi, 10), "active": true}
			if p.idle > 0 {
				process = object{"podUID": uid, "memory": process["memory"], "lastActiveTime": c.seconds(p.idle)}
			}
			c.processes[id] = append(c.processes[id], process)
			c.used[id] += p.holds * gi
		}
		allocation, _ := json.Marshal(object{"version": 1, "devices": devices, "tensorParallelSize": len(p.gpus)})
		annotations["berth.dev/allocation"] = string(allocation)
		ready := "True"
		if p.loading {
			ready = "False"
		}
		status = object{"phase": "Running", "startTime": c.seconds(p.started), "conditions": []any{
			object{"type": "PodScheduled", "status": "True", "lastTransitionTime": c.seconds(p.started)},
			object{"type": "Ready", "status": ready, "lastTransitionTime": c.seconds(p.started - time.Minute)},
		}, "containerStatuses": []any{object{"name": "server", "ready": !p.loading, "image": "i", "imageID": "", "restartCount": 0,
			"state": object{"running": object{"startedAt": c.seconds(p.started)}}}}}
	} else if p.message != "" {
		status["conditions"] = []any{object{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": p.message, "lastTransitionTime": c.seconds(p.started)}}
	}
	reference := object{"name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": object{"fieldRef": object{"fieldPath": "metadata.annotations['berth.dev/visible-devices']"}}}
	c.items = append(c.items, object{"apiVersion": "v1", "kind": "Pod",
		"metadata": object{"namespace": p.namespace, "name": p.name, "uid": uid, "creationTimestamp": c.seconds(p.started), "annotations": annotations,
			"labels": object{"app": p.name}},
		"spec": object{"schedulerName": "berth", "nodeName": p.node, "priority": p.priority, "runtimeClassName": "nvidia", "terminationGracePeriodSeconds": 30,
			"containers": []any{object{"name": "server", "image": "example.com/server:v1", "env": []any{reference}}}},
		"status": status})
}

// node adds a node and the report of its GPUs; its pods come before it.
func (c *cluster) node(name, pool, model string, gpus int, memory int64, unhealthy int) {
	c.add("v1", "Node", object{"name": name, "labels": object{"kubernetes.io/hostname": name, "cloud.google.com/gke-nodepool": pool}}, object{
		"status": object{"allocatable": object{"cpu": "192", "memory": "2Ti", "pods": "110"}, "conditions": []any{object{"type": "Ready", "status": "True"}}}})
	var devices []any
	for i := range gpus {
		id := gpu(name, i)
		device := object{"uuid": id, "index": i, "model": model, "computeCapability": "9.0", "health": "Healthy",
			"memory": object{"total": fmt.Sprintf("%dMi", memory), "reserved": "512Mi", "used": strconv.FormatInt(c.used[id], 10)}, "processes": c.processes[id]}
		if i == unhealthy {
			device["health"], device["reason"] = "Unhealthy", "Xid79"
		}
		devices = append(devices, device)
	}
	c.add("berth.dev/v1alpha1", "GPUNode", object{"name": name}, object{"status": object{
		"driverVersion": "580.159.04", "observedTime": c.seconds(2 * time.Second), "devices": devices}})
	c.add("coordination.k8s.io/v1", "Lease", object{"namespace": "berth-system", "name": name}, object{
		"spec": object{"holderIdentity": name, "leaseDurationSeconds": 60, "renewTime": c.time(2 * time.Second)}})
}

// profileName is the name that the profile of a model has by rule.
func profileName(slug, source string) string {
	sum := sha256.Sum256([]byte(source))
	return slug + "-" + hex.EncodeToString(sum[:4])
}

// models adds the profiles of the models.
func (c *cluster) models() {
	layers := slices.Repeat([]int64{244 << 20}, 28)
	c.add("berth.dev/v1alpha1", "ModelProfile", object{"name": profileName("hf-qwen-qwen2-5-7b-instruct-gguf-qwen2-5-7b-instruct-q", qwen)}, object{
		"spec": object{"source": qwen},
		"status": object{
			"conditions": []any{object{"type": "Ready", "status": "True", "reason": "Resolved", "message": "The model's memory is known from its files", "lastTransitionTime": c.seconds(time.Hour)}},
			"size":       "7.5Gi",
			"model": object{"format": "gguf", "architecture": "qwen2", "quantization": "Q8_0", "weightsSource": "tensors", "parameters": 7615616512, "fileSize": 8098525888,
				"contextLength": 32768, "vocabularySize": 152064, "hiddenSize": 3584, "feedForward": 18944, "heads": 28, "kvHeads": 4, "layerCount": 28,
				"layerWeights": layers, "embedding": 579076096, "output": 579076096, "otherWeights": 14336,
				"layers": []any{object{"count": 28, "kind": "attention", "heads": 28, "kvHeads": 4, "keyDim": 128, "valueDim": 128}}},
			"observedPeaks": []any{
				object{"namespace": "search", "settings": object{"runtime": "llama.cpp", "contextLength": 32768}, "gpuCount": 1, "devices": []any{"9800Mi"}, "samples": 3, "lastTime": c.seconds(2 * time.Hour)},
				object{"namespace": "default", "settings": object{"runtime": "llama.cpp", "contextLength": 8192, "parallel": 4}, "gpuCount": 2, "devices": []any{"5200Mi", "4900Mi"}, "samples": 1, "lastTime": c.seconds(30 * time.Hour)},
			}}})
	c.add("berth.dev/v1alpha1", "ModelProfile", object{"name": profileName("hf-acme-private-13b", private)}, object{
		"spec": object{"source": private},
		"status": object{"conditions": []any{object{"type": "Ready", "status": "False", "reason": "Unauthorized",
			"message": "the hub answers 401: the controller has no token for it", "lastTransitionTime": c.seconds(time.Hour)}}}})
}

// write writes the snapshot to a file, and returns its name.
func (c *cluster) write(t testing.TB, file string) string {
	t.Helper()
	text, err := json.Marshal(object{"kind": "List", "apiVersion": "v1", "items": c.items})
	if err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// small is the cluster of the pictures: four nodes, three namespaces, four pods that wait, each for another reason.
func small() *cluster {
	c := newCluster()
	idle := map[string]string{"berth.dev/idle-after": "30m"}
	for i := range 2 {
		c.pod(pod{namespace: "chat", name: fmt.Sprintf("llama-70b-%d", i), node: "h100-0", gpus: []int{4 * i, 4*i + 1}, memory: 72, holds: 70, annotations: map[string]string{"berth.dev/runtime": "vllm"}})
	}
	c.pod(pod{namespace: "chat", name: "qwen-32b-0", node: "h100-0", gpus: []int{2}, memory: 52, holds: 49, annotations: map[string]string{"berth.dev/runtime": "vllm"}})
	c.pod(pod{namespace: "search", name: "embed-0", node: "h100-0", gpus: []int{2}, memory: 8, holds: 6})
	c.pod(pod{namespace: "search", name: "rerank-0", node: "h100-0", gpus: []int{2}, memory: 10, holds: 9})
	c.pod(pod{namespace: "research", name: "mixtral-0", node: "h100-0", gpus: []int{3}, memory: 62, holds: 57, idle: 52 * time.Minute, annotations: idle})
	c.pod(pod{namespace: "research", name: "gemma-27b-0", node: "h100-0", gpus: []int{6}, memory: 40, holds: 12, started: 3 * time.Minute, loading: true})
	c.node("h100-0", "h100", "NVIDIA H100 80GB HBM3", 8, 81559, 7)
	for i, name := range []string{"a", "b", "c", "d"} {
		c.pod(pod{namespace: "chat", name: "mistral-24b-" + name, node: "a100-0", gpus: []int{i}, memory: 30, holds: 28})
	}
	c.pod(pod{namespace: "search", name: "qwen-7b-0", node: "a100-0", gpus: []int{0}, memory: 8, holds: 9,
		annotations: map[string]string{"berth.dev/model": qwen, "berth.dev/runtime": "llama.cpp", "berth.dev/context-length": "32768"}})
	c.used[gpu("a100-0", 2)] += 6 * gi
	c.processes[gpu("a100-0", 2)] = append(c.processes[gpu("a100-0", 2)], object{"memory": "6Gi"})
	c.node("a100-0", "a100", "NVIDIA A100-SXM4-40GB", 4, 40960, -1)
	c.pod(pod{namespace: "search", name: "whisper-0", node: "l40s-0", gpus: []int{0}, memory: 12, holds: 10, priority: 1000})
	c.processes[gpu("l40s-0", 1)] = append(c.processes[gpu("l40s-0", 1)], object{"podUID": "30000000-0000-0000-0000-000000000000", "memory": "14Gi"})
	c.used[gpu("l40s-0", 1)] += 14 * gi
	c.node("l40s-0", "l40s", "NVIDIA L40S", 2, 46068, -1)
	c.node("l40s-1", "l40s", "NVIDIA L40S", 2, 46068, -1)
	c.models()
	c.pod(pod{namespace: "research", name: "llama-405b-0", started: 42 * time.Minute, annotations: map[string]string{"berth.dev/gpu-memory": "810Gi", "berth.dev/gpu-count": "4,8", "berth.dev/runtime": "vllm"},
		message: "0/4 nodes are available: no node has GPUs that could ever hold the requested memory."})
	c.pod(pod{namespace: "chat", name: "deepseek-70b-0", started: 11 * time.Minute, annotations: map[string]string{"berth.dev/gpu-memory": "150Gi", "berth.dev/gpu-count": "2"},
		message: "0/4 nodes are available: 1 node(s) didn't have enough free GPU memory."})
	c.pod(pod{namespace: "chat", name: "urgent-0", started: 20 * time.Second, priority: 5000, memory: 60, message: "0/4 nodes are available: 4 node(s) didn't have enough free GPU memory."})
	c.pod(pod{namespace: "chat", name: "assistant-0", started: 90 * time.Second, annotations: map[string]string{"berth.dev/model": private, "berth.dev/runtime": "vllm"}})
	delete(c.items[len(c.items)-1].(object)["metadata"].(object)["annotations"].(map[string]string), "berth.dev/gpu-memory")
	return c
}

// large is a cluster of so many nodes of eight GPUs, two pods on most of them.
func large(nodes int) *cluster {
	c := newCluster()
	for i := range nodes {
		name := fmt.Sprintf("n%03d", i)
		for j := range 8 {
			c.pod(pod{namespace: fmt.Sprintf("team-%d", i%7), name: fmt.Sprintf("large-%03d-%d", i, j), node: name, gpus: []int{j}, memory: 40 + int64(i+j)%20, holds: 35 + int64(i*j)%15})
			if (i+j)%5 > 0 {
				c.pod(pod{namespace: fmt.Sprintf("team-%d", j%7), name: fmt.Sprintf("small-%03d-%d", i, j), node: name, gpus: []int{j}, memory: 8, holds: 7})
			}
		}
		c.node(name, fmt.Sprintf("pool-%d", i%5), "NVIDIA H100 80GB HBM3", 8, 81559, -1)
	}
	c.pod(pod{namespace: "team-0", name: "waits-0", started: 5 * time.Minute, annotations: map[string]string{"berth.dev/gpu-memory": "140Gi", "berth.dev/gpu-count": "2"}, message: "0/500 nodes are available."})
	return c
}
