// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package repair keeps new pods off single GPUs of a node, and evicts those that hold them. It writes the Node's annotation
// and Evictions, with the rights of whoever asks.
package repair

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/berthclient"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// fieldManager is who writes.
const fieldManager = "kubectl-berth"

// Client works on one cluster.
type Client struct {
	Kube  kubernetes.Interface
	berth rest.Interface
}

// New returns a client of the cluster of a configuration.
func New(config *rest.Config) (*Client, error) {
	c := &Client{}
	var err error
	if c.berth, err = berthclient.NewReader(config); err != nil {
		return nil, err
	}
	c.Kube, err = kubernetes.NewForConfig(config)
	return c, err
}

// GPU is one GPU, or MIG instance, of a node.
type GPU struct {
	UUID string
	// Index is that of the driver; negative if the node does not report the GPU.
	Index int
	// Instance says that it is a MIG instance, whose index is its GPU's.
	Instance bool
}

// Number is the index by which the GPU can be named; empty if it has none of its own.
func (g GPU) Number() string {
	if g.Index < 0 || g.Instance {
		return ""
	}
	return strconv.Itoa(g.Index)
}

func (g GPU) String() string {
	if g.Index < 0 {
		return "GPU " + g.UUID
	}
	return fmt.Sprintf("GPU %d (%s)", g.Index, g.UUID)
}

// Report returns what a node reports of its GPUs.
func (c *Client) Report(ctx context.Context, node string) (*berthv1alpha1.GPUNodeStatus, error) {
	o := &gpunode.Object{}
	err := c.berth.Get().Resource("gpunodes").Name(node).Do(ctx).Into(o)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("node %s has no GPUNode: no agent ever reported its GPUs (%w)", node, err)
	case err != nil:
		return nil, fmt.Errorf("get GPUNode %s: %w", node, err)
	}
	if o.Decode(); o.Status == nil {
		return nil, fmt.Errorf("what node %s reports cannot be read: %s", node, o.Problem)
	}
	return o.Status, nil
}

// GPUs returns the GPUs that a node reports; of those, and of what its annotation names beside them, what is cordoned if that is
// asked for.
func (c *Client) GPUs(ctx context.Context, node string, onlyCordoned bool) (gpus []GPU, err error) {
	report, err := c.Report(ctx, node)
	if err != nil && !onlyCordoned {
		return nil, err
	}
	if report != nil {
		for i := range report.Devices {
			d := &report.Devices[i]
			gpus = append(gpus, GPU{UUID: d.UUID, Index: int(d.Index), Instance: d.Parent != ""})
		}
	}
	if !onlyCordoned {
		return gpus, nil
	}
	n, err := c.Kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var cordoned []GPU
	for uuid := range berthv1alpha1.EachCordonedGPU(n) {
		if i := slices.IndexFunc(gpus, func(g GPU) bool { return g.UUID == uuid }); i >= 0 {
			cordoned = append(cordoned, gpus[i])
		} else {
			cordoned = append(cordoned, GPU{UUID: uuid, Index: -1})
		}
	}
	return cordoned, nil
}

// Find returns the GPUs that UUIDs, or indexes, name. With gone, it also takes UUIDs that the node's annotation names and
// its report does not.
func (c *Client) Find(ctx context.Context, node string, names []string, gone bool) (gpus []GPU, err error) {
	report, unreported := c.Report(ctx, node)
	var cordoned []string
	if gone {
		n, err := c.Kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		cordoned = slices.Collect(berthv1alpha1.EachCordonedGPU(n))
	}
	for _, name := range names {
		if slices.Contains(cordoned, name) && (report == nil || !slices.ContainsFunc(report.Devices, func(d berthv1alpha1.GPUDevice) bool { return d.UUID == name })) {
			gpus = append(gpus, GPU{UUID: name, Index: -1})
			continue
		}
		if unreported != nil {
			return nil, unreported
		}
		d, err := report.Find(name)
		if err != nil {
			return nil, fmt.Errorf("node %s has %w", node, err)
		}
		if g := (GPU{UUID: d.UUID, Index: int(d.Index)}); !slices.Contains(gpus, g) {
			gpus = append(gpus, g)
		}
	}
	return gpus, nil
}

// SetCordoned keeps new pods off GPUs of a node, or no longer. It returns those for which that is new. With serverDryRun the
// cluster stores nothing.
func (c *Client) SetCordoned(ctx context.Context, node string, gpus []GPU, cordoned, serverDryRun bool) (changed []GPU, err error) {
	var dryRun []string
	if serverDryRun {
		dryRun = []string{metav1.DryRunAll}
	}
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n, err := c.Kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		var value *string // nil takes the annotation away
		text := ""
		if changed, text = Plan(n, gpus, cordoned); len(changed) == 0 {
			return nil
		}
		if text != "" {
			value = &text
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"resourceVersion": n.ResourceVersion, "annotations": map[string]any{berthv1alpha1.AnnotationCordonedGPUs: value},
		}})
		if err != nil {
			return err
		}
		_, err = c.Kube.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{DryRun: dryRun, FieldManager: fieldManager})
		return err
	})
	return changed, err
}

// Plan returns for which GPUs it is new that they are cordoned, or not, and the value of the node's annotation then; empty =
// none.
func Plan(node *corev1.Node, gpus []GPU, cordoned bool) (changed []GPU, value string) {
	before := slices.Collect(berthv1alpha1.EachCordonedGPU(node))
	var uuids []string
	for _, g := range gpus {
		if slices.Contains(before, g.UUID) != cordoned {
			changed, uuids = append(changed, g), append(uuids, g.UUID)
		}
	}
	if cordoned {
		return changed, berthv1alpha1.CordonedGPUs(node, uuids, nil)
	}
	return changed, berthv1alpha1.CordonedGPUs(node, nil, uuids)
}
