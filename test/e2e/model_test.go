// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

// hubPort is one that the NetworkPolicy lets the controller reach.
const hubPort = "6443"

// testUnknownModel: an Ollama registry of the admin does not answer yet. It is this process, at the address that nodes
// have as their gateway.
func testUnknownModel(t *testing.T, c *cluster) {
	gateway := regexp.MustCompile(`default via (\S+)`).FindStringSubmatch(c.workers[0].run(t, "ip", "-4", "route"))
	if gateway == nil {
		t.Fatal("the nodes have no gateway")
	}
	address := net.JoinHostPort(gateway[1], hubPort)
	kubectl(t, "-n", systemNamespace, "patch", "deployment", "berth-controller", "--type=json", "-p", fmt.Sprintf(
		`[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--ollama-endpoint=http://%s"}]`, address))
	kubectl(t, "-n", systemNamespace, "rollout", "status", "deployment/berth-controller", "--timeout=2m")

	pod := newPod("ollama", "", annotated(berthv1alpha1.AnnotationModel, "ollama://chat:8b"),
		annotated(berthv1alpha1.AnnotationRuntime, "ollama"))
	c.create(t, pod)
	eventually(t, "the pod is told what it waits for", func(ctx context.Context) (bool, string) {
		var events corev1.EventList
		if err := c.client.List(ctx, &events, client.InNamespace(namespace)); err != nil {
			return false, err.Error()
		}
		for _, e := range events.Items {
			if e.InvolvedObject.Name == pod.Name && e.Reason == "ModelUnknown" {
				t.Logf("%s: %s", e.Reason, e.Message)
				return true, ""
			}
		}
		return false, fmt.Sprintf("of %d events, none is ModelUnknown", len(events.Items))
	})
	if c.get(t, pod); pod.Spec.NodeName != "" {
		t.Fatalf("the pod was placed on %s though nobody knows its memory", pod.Spec.NodeName)
	}

	model := modeltest.Llama{Layers: 32, Hidden: 4096, FeedForward: 14336, Heads: 32, KVHeads: 8, Context: 8192, Tokens: 128256, Merges: 1000}.GGUF()
	startHub(t, address, "chat", "8b", model)
	ready := c.waitReady(t, pod)
	booked := alloc.Bytes{}
	for _, share := range allocationOf(t, ready).Devices {
		booked = booked.Plus(share.Memory)
	}
	if booked.Less(alloc.BytesOf(uint64(model.Size))) {
		t.Errorf("%s are booked, the model's file alone has %d bytes", booked, model.Size)
	}
	t.Logf("a model of %d bytes was booked with %s", model.Size, booked)
	if s := see(t, pod.Name, "server"); len(s.devices) == 0 {
		t.Error("the container sees no GPU")
	}
}

// startHub serves a model as an Ollama registry does.
func startHub(t *testing.T, address, name, tag string, model modeltest.File) {
	t.Helper()
	sum := sha256.Sum256(model.Head) // nobody reads the rest
	digest := "sha256:" + hex.EncodeToString(sum[:])
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "layers": []any{
		map[string]any{"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": model.Size},
	}})
	if err != nil {
		t.Fatal(err)
	}
	files := modeltest.NewServer(t, map[string]modeltest.File{
		"/v2/library/" + name + "/manifests/" + tag: modeltest.Content(manifest),
		"/v2/library/" + name + "/blobs/" + digest:  model,
	})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: files.Config.Handler}
	go func() { _ = server.Serve(listener) }() // it ends when the test closes it
	t.Cleanup(func() { _ = server.Close() })
}
