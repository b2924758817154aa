// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/cli"
	"github.com/berth-dev/berth/pkg/cli/plan"
	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/estimator/modelfile"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestPlanIsWhatTheSchedulerDoes makes a lab of as many nodes as kubectl berth plan says for the examples of its page. With one
// node fewer what-if leaves pods pending, with all it places all, and then so does the scheduler.
func TestPlanIsWhatTheSchedulerDoes(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "how-many-nodes.md"))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	text, err := manifests.FS.ReadFile("scheduler/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(folder, "config.yaml")
	one := strings.Replace(string(text), "\nprofiles:", "\nparallelism: 1\npercentageOfNodesToScore: 100\nprofiles:", 1)
	if err := os.WriteFile(config, []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	lab := harness.Start(t, "--bare", "--scheduler-config", config, "--no-controller")
	var examples []string
	for _, name := range bt.WriteFilesOf(t, page, folder) {
		if filepath.Ext(name) == ".json" {
			resolved(t, lab, filepath.Join(folder, name))
		} else {
			examples = append(examples, name)
		}
	}
	if len(examples) < 3 {
		t.Errorf("examples %q", examples)
	}
	for _, name := range examples {
		t.Run(name, func(t *testing.T) { planned(t, lab, page, filepath.Join(folder, name)) })
	}
}

// resolved makes the ModelProfile of a file, as the controller does of a source.
func resolved(t *testing.T, lab *harness.Lab, file string) {
	t.Helper()
	model, err := modelfile.ReadPath(file)
	if err != nil {
		t.Fatal(err)
	}
	profile := &berthv1alpha1.ModelProfile{ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.ModelProfileName("file://" + file)}}
	profile.Spec.Source = "file://" + file
	harness.Create(t, lab, profile)
	profile.Status.Model = model
	profile.Status.Conditions = []metav1.Condition{{Type: berthv1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Read", LastTransitionTime: metav1.Now()}}
	if err := lab.Client.Status().Update(t.Context(), profile); err != nil {
		t.Fatal(err)
	}
}

// planned makes a cluster as it is planned for a file by the command of the page, less one node, asks, and adds it.
func planned(t *testing.T, lab *harness.Lab, page []byte, file string) {
	var shapes []string
	for line := range strings.Lines(string(page)) {
		words := strings.Fields(line)
		if strings.HasPrefix(line, "$ kubectl berth plan -f "+filepath.Base(file)) {
			shapes = words[6:8]
		}
	}
	args := append([]string{"plan", "-f", file, "-o", "json"}, shapes...)
	var out bytes.Buffer
	status := berthStatus(t, lab, &out, args...)
	var answer plan.Answer
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil || status != 0 || !answer.Proven || answer.AtOnce != "" {
		t.Fatalf("status %d, %v\n%s", status, err, out.String())
	}
	nodes := nodesOf(t, answer.Shapes, shapes[1])
	last := len(nodes) - 1
	for i, node := range nodes {
		if i == last {
			if status := berthStatus(t, lab, &out, "what-if", "-f", file); status != 1 {
				t.Errorf("with %d nodes: status %d\n%s", last, status, out.String())
			}
		}
		lab.AddNode(t, node.node, node.report)
	}
	if status := berthStatus(t, lab, &out, "what-if", "-f", file); status != 0 {
		t.Errorf("with %d nodes: status %d\n%s", len(nodes), status, out.String())
	}
	read, err := (&whatif.Manifests{FilenameOptions: resource.FilenameOptions{Filenames: []string{file}}}).Read("default")
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range read.Pods {
		pod.OwnerReferences = nil
		pod.Spec.TerminationGracePeriodSeconds = new(int64)
		harness.Create(t, lab, pod)
	}
	for _, pod := range read.Pods {
		lab.WaitReady(t, pod)
	}
	for _, pod := range read.Pods {
		lab.Delete(t, pod, 0)
		lab.WaitGone(t, pod)
	}
	for _, n := range nodes {
		for _, object := range []client.Object{n.node, n.report} {
			if err := lab.Client.Delete(t.Context(), object); err != nil {
				t.Fatal(err)
			}
			lab.WaitGone(t, object)
		}
	}
}

// berthStatus runs kubectl berth on a lab, and returns the status with which it would end.
func berthStatus(t *testing.T, lab *harness.Lab, out *bytes.Buffer, args ...string) int {
	t.Helper()
	out.Reset()
	var errOut bytes.Buffer
	command := cli.NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: out, ErrOut: &errOut})
	command.SetArgs(append(args, "--kubeconfig", lab.Kubeconfig))
	err := command.ExecuteContext(context.WithoutCancel(t.Context()))
	if status := cli.ExitCode(err); status < 2 {
		return status
	}
	t.Fatalf("%v: %v\n%s", args, err, errOut.String())
	return 0
}

type nodeAndReport struct {
	node   *corev1.Node
	report *berthv1alpha1.GPUNode
}

// nodesOf are nodes as they are planned.
func nodesOf(t *testing.T, of []plan.ShapeNodes, flag string) (out []nodeAndReport) {
	t.Helper()
	shapes, err := plan.ParseShapes([]string{flag})
	if err != nil {
		t.Fatal(err)
	}
	for _, planned := range of {
		for i := range shapes {
			if shapes[i].Name != planned.Shape {
				continue
			}
			like := bt.MakeNode("like")
			if !shapes[i].CPU.IsZero() {
				like.Status.Allocatable[corev1.ResourceCPU], like.Status.Allocatable[corev1.ResourceMemory] = shapes[i].CPU, shapes[i].Memory
				like.Status.Capacity = like.Status.Allocatable
			}
			s := &simulator.Snapshot{}
			for n := range planned.Nodes {
				s.AddNode(fmt.Sprintf("%s-%d", planned.Shape, n), like, &berthv1alpha1.GPUNodeStatus{}, shapes[i].Shape)
			}
			for _, object := range s.Objects {
				switch o := object.(type) {
				case *corev1.Node:
					o.UID = ""
					out = append(out, nodeAndReport{node: o})
				case *gpunode.Object:
					out[len(out)-1].report = &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: o.Name}, Status: *o.Status}
					out[len(out)-1].report.Status.ObservedTime = metav1.Now()
				}
			}
		}
	}
	return out
}
