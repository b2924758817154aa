// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

// Set by "make test-karpenter" and "make test-kueue": the program, and the folder of its module.
const (
	envKarpenter, envKarpenterSource = "KARPENTER", "KARPENTER_SOURCE"
	envKueue, envKueueSource         = "KUEUE", "KUEUE_SOURCE"
)

// applyAll creates the objects of a text of YAML documents. It waits for kinds that are not served yet.
func applyAll(t *testing.T, lab *harness.Lab, text []byte) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) == 0 {
			continue
		}
		harness.Eventually(t, object.GetKind()+" "+object.GetName()+" is made", func(ctx context.Context) (bool, string) {
			err := lab.TryCreate(ctx, object.DeepCopy())
			return err == nil, fmt.Sprint(err)
		})
	}
}

func applyFiles(t *testing.T, lab *harness.Lab, pattern string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		applyAll(t, lab, text)
	}
}

// runBeside runs a program until it is stopped or the test ends, and shows its log if the test fails.
func runBeside(t *testing.T, env []string, program string, args ...string) (stop func()) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(func() {
		stop()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("the log of %s:\n%s", filepath.Base(program), text[max(0, len(text)-20000):])
		}
	})
	return stop
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// instanceTypes is one for Karpenter's KWOK provider. That it has GPU memory is said by the NodeOverlay.
const instanceTypes = `[{"name":"gpu-2x80","architecture":"amd64","operatingSystems":["linux"],
"resources":{"cpu":"16","memory":"64Gi","pods":"110","ephemeral-storage":"100Gi"},
"offerings":[{"Price":1,"Available":true,"Requirements":[
{"key":"karpenter.sh/capacity-type","operator":"In","values":["on-demand"]},{"key":"topology.kubernetes.io/zone","operator":"In","values":["zone-a"]}]}]}]`

const nodePool = `
apiVersion: karpenter.kwok.sh/v1alpha1
kind: KWOKNodeClass
metadata: {name: default}
---
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: gpus}
spec:
  template:
    spec:
      requirements:
      - {key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}
      nodeClassRef: {group: karpenter.kwok.sh, kind: KWOKNodeClass, name: default}
  disruption: {consolidationPolicy: WhenEmpty, consolidateAfter: Never}
---
apiVersion: karpenter.sh/v1alpha1
kind: NodeOverlay
metadata: {name: berth}
spec:
  requirements:
  - {key: node.kubernetes.io/instance-type, operator: In, values: [gpu-2x80]}
  capacity: {berth.dev/gpu-memory: 159Gi}
`

// TestKarpenterMakesNodesForGPUMemory runs the real Karpenter with its KWOK provider. It makes none for a pod that fits, one
// for a pod for which there is too little left, and none where there is enough in sum.
func TestKarpenterMakesNodesForGPUMemory(t *testing.T) {
	program, source := os.Getenv(envKarpenter), os.Getenv(envKarpenterSource)
	if program == "" {
		t.Skip("needs Karpenter: make test-karpenter")
	}
	lab := harness.Start(t, "--bare", "--gpu-memory-resource")
	applyFiles(t, lab, filepath.Join(source, "kwok/charts/crds/*.yaml"))
	applyFiles(t, lab, filepath.Join(source, "kwok/apis/crds/*.yaml"))
	applyAll(t, lab, []byte(nodePool))
	lab.AddNode(t, bt.MakeNode("old"), bt.MakeGPUsOf("old", 2, "80Gi").Obj())
	types := filepath.Join(t.TempDir(), "types.json")
	if err := os.WriteFile(types, []byte(instanceTypes), 0o600); err != nil {
		t.Fatal(err)
	}
	runBeside(t, []string{
		"KUBECONFIG=" + lab.Kubeconfig, "SYSTEM_NAMESPACE=kube-system", "METRICS_PORT=" + freePort(t), "HEALTH_PROBE_PORT=" + freePort(t),
		"DISABLE_LEADER_ELECTION=true", "INSTANCE_TYPES_FILE_PATH=" + types, "FEATURE_GATES=NodeOverlay=true", "BATCH_IDLE_DURATION=1s",
	}, program)
	nodeClaims := func(ctx context.Context) []unstructured.Unstructured {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: "karpenter.sh", Version: "v1", Kind: "NodeClaimList"})
		if err := lab.Client.List(ctx, list); err != nil {
			t.Fatal(err)
		}
		return list.Items
	}
	pod := func(name, memory string) *corev1.Pod {
		return harness.Create(t, lab, unreferenced(name, func(p *bt.Pod) { p.Memory(memory) }))
	}

	for _, p := range []*corev1.Pod{pod("fits", "60Gi"), pod("fits-too", "70Gi")} {
		if bound, _ := lab.WaitBound(t, p); bound.Spec.NodeName != "old" {
			t.Errorf("%s is on node %s", p.Name, bound.Spec.NodeName)
		}
	}
	more := pod("more", "60Gi")
	made := ""
	harness.Eventually(t, "a node is made", func(ctx context.Context) (bool, string) {
		nodes := &corev1.NodeList{}
		if err := lab.Client.List(ctx, nodes, client.HasLabels{"karpenter.sh/nodepool"}); err != nil {
			return false, err.Error()
		}
		for _, n := range nodes.Items {
			made = n.Name
		}
		return made != "", "none yet"
	})
	lab.Report(t, bt.MakeGPUsOf(made, 2, "80Gi").Obj())
	if bound, allocation := lab.WaitBound(t, more); bound.Spec.NodeName != made || allocation == nil {
		t.Errorf("it is on node %s with allocation %v, want %s", bound.Spec.NodeName, allocation, made)
	}

	// 19.5Gi and 9.5Gi are left on the GPUs of the old node, 19.5Gi and 79.5Gi on the new one's: fill that GPU.
	if bound, _ := lab.WaitBound(t, pod("fills", "70Gi")); bound.Spec.NodeName != made {
		t.Errorf("it is on node %s", bound.Spec.NodeName)
	}
	inSum := pod("in-sum", "25Gi")
	harness.Eventually(t, "Karpenter says that a pod for which there is enough in sum fits", func(ctx context.Context) (bool, string) {
		events := &corev1.EventList{}
		if err := lab.Client.List(ctx, events, client.InNamespace(inSum.Namespace)); err != nil {
			return false, err.Error()
		}
		for _, e := range events.Items {
			if e.InvolvedObject.Name == inSum.Name && e.Reason == "Nominated" && strings.Contains(e.Message, "Pod should schedule on") {
				return true, ""
			}
		}
		return false, fmt.Sprint(len(events.Items), " events")
	})
	if claims := nodeClaims(t.Context()); len(claims) != 1 {
		t.Errorf("%d nodes were made, want one", len(claims))
	}
	if p := lab.Pod(t, inSum); p.Spec.NodeName != "" {
		t.Errorf("it is on node %s", p.Spec.NodeName)
	}
}
