// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/dynamic-resource-allocation/structured"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	scheduler_perf "k8s.io/kubernetes/test/integration/scheduler_perf"
	"k8s.io/kubernetes/test/utils/client-go/ktesting"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/berthclient"
	"github.com/berth-dev/berth/pkg/lab/install"
	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin"
	"github.com/berth-dev/berth/pkg/plugin/policies"
)

// BenchmarkPerfScheduling runs config/workloads.yaml: the same binary, with and without the plugin. The harness wants
// this name; -perf-scheduling-label-filter says which workloads.
func BenchmarkPerfScheduling(b *testing.B) {
	scheduler_perf.PluginNames = append(scheduler_perf.PluginNames, plugin.Name)
	b.Chdir("config")
	scheduler_perf.RunBenchmarkPerfScheduling(b, "workloads.yaml", "berth", frameworkruntime.Registry{plugin.Name: alone},
		scheduler_perf.WithNodeUpdateFn(reportGPUs))
}

// alone makes the plugin of a scheduler without leader election, one for each workload. It makes the API server serve
// what the plugin watches before: a scheduler ends where that is not served, and the harness prepares nothing earlier.
func alone(ctx context.Context, args runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
	if err := installCRDs(ctx, handle.KubeConfig()); err != nil {
		return nil, err
	}
	lead := leader.New()
	lead.Alone()
	return plugin.NewFor(lead, &policies.State{})(ctx, args, handle)
}

// BenchmarkPerfSchedulingDRA runs Kubernetes' own workload for the consumable capacity of devices, by which DRA shares
// the memory of a device among pods.
func BenchmarkPerfSchedulingDRA(b *testing.B) {
	out, err := exec.CommandContext(b.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		b.Fatalf("looking for the module k8s.io/kubernetes: %v", err)
	}
	// Its templates are found from its own folder.
	b.Chdir(filepath.Join(strings.TrimSpace(string(out)), "test", "integration", "scheduler_perf", "dra", "consumablecapacity"))
	structured.EnableAllocators("experimental") // the one that can do it
	defer structured.EnableAllocators()
	scheduler_perf.RunBenchmarkPerfScheduling(b, "performance-config.yaml", "dra", nil)
}

func installCRDs(ctx context.Context, config *rest.Config) error {
	objects, err := manifests.Objects("crd")
	if err != nil {
		return err
	}
	// The scheduler's own configuration speaks protobuf, which custom resources do not.
	client, err := dynamic.NewForConfig(dynamic.ConfigFor(config))
	if err != nil {
		return err
	}
	return install.Apply(ctx, client, objects)
}

// reportGPUs reports eight GPUs of 80Gi for each node of a workload that says gpus: 1.
func reportGPUs(tCtx ktesting.TContext, _ *scheduler.Scheduler, w *scheduler_perf.Workload, nodes *corev1.NodeList) error {
	if gpus, err := w.GetParam("gpus"); err != nil || gpus == 0 {
		return err
	}
	// The harness creates nodes on one connection, at the speed of which these would take minutes.
	config := rest.CopyConfig(tCtx.RESTConfig())
	config.QPS = -1
	client, err := berthclient.New(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(tCtx)
	defer cancel(nil)
	workqueue.ParallelizeUntil(ctx, 16, len(nodes.Items), func(i int) {
		if err := report(ctx, client, nodes.Items[i].Name, i); err != nil {
			cancel(fmt.Errorf("reporting the GPUs of %s: %w", nodes.Items[i].Name, err))
		}
	})
	return context.Cause(ctx)
}

// report creates a GPUNode and, as an agent does, writes its status. GPUs of all nodes have UUIDs of their own.
func report(ctx context.Context, client rest.Interface, node string, number int) error {
	g := bt.MakeGPUNode(node)
	g.ObjectMeta.ResourceVersion = ""
	for i := range 8 {
		g.GPU(fmt.Sprintf("GPU-%08x-0000-0000-0000-%012x", number, i), "81559Mi").Reserved("512Mi")
	}
	gn := g.Obj()
	created := gn.DeepCopy()
	err := client.Post().Resource("gpunodes").Body(created).Do(ctx).Into(created)
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	gn.ResourceVersion = created.ResourceVersion
	return client.Put().Resource("gpunodes").Name(node).SubResource("status").Body(gn).Do(ctx).Error()
}
