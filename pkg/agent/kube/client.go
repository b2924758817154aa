// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube connects the agent to the API server: its own node's GPUNode and Lease, and its Node. It speaks REST without
// a clientset, whose registered types alone would double the agent's memory.
package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// FieldManager owns the fields of GPUNode.status.
const FieldManager = "berth-agent"

// leaseDuration is what the Lease says; the scheduler's own staleAfter decides.
const leaseDuration = 60 * time.Second

// Client writes the objects of one node. It implements agent.Client.
type Client struct {
	rest rest.Interface
	node string
}

// NewClient returns a client for the objects of a node.
func NewClient(config *rest.Config, node string) (*Client, error) {
	r, err := newREST(config)
	if err != nil {
		return nil, err
	}
	return &Client{rest: r, node: node}, nil
}

// newREST returns a client for any path of the API server, which decodes nothing but what errors are told by.
func newREST(config *rest.Config) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	c := rest.CopyConfig(config)
	c.GroupVersion = &corev1.SchemeGroupVersion
	c.APIPath = "/api"
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	r, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("API client: %w", err)
	}
	return r, nil
}

// Report returns the node's GPUNode as it is stored: the API server's cache may not have the agent's own last write.
func (c *Client) Report(ctx context.Context) (*berthv1alpha1.GPUNode, error) {
	raw, err := c.rest.Get().AbsPath(c.gpuNodePath()).
		SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("get GPUNode: %w", err)
	}
	object := &gpunode.Object{}
	if err := json.Unmarshal(raw, object); err != nil {
		return nil, fmt.Errorf("decode GPUNode: %w", err)
	}
	if object.Decode(); object.Problem != "" { // the agent did not write that
		return nil, fmt.Errorf("decode GPUNode: %s", object.Problem)
	}
	return object.GPUNode(), nil
}

// Version returns the resource version of the node's GPUNode. It is asked for often, so the API server may answer from its
// cache, once that has notOlderThan, the version of the agent's last write.
func (c *Client) Version(ctx context.Context, notOlderThan string) (string, error) {
	raw, err := c.rest.Get().AbsPath(c.gpuNodePath()).Param("resourceVersion", notOlderThan).
		SetHeader("Accept", metadataOnly).Do(ctx).Raw()
	if err != nil {
		return "", fmt.Errorf("get the version of GPUNode: %w", err)
	}
	return versionIn(raw)
}

// metadataOnly asks for nothing but the metadata of an object.
const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

func versionIn(raw []byte) (string, error) {
	var object metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &object); err != nil {
		return "", fmt.Errorf("decode metadata: %w", err)
	}
	return object.ResourceVersion, nil
}

// Apply writes the status of the node's GPUNode by server-side apply. The object is made when it turns out to be
// missing, which is once in a node's life.
func (c *Client) Apply(ctx context.Context, status *berthv1alpha1.GPUNodeStatus) (resourceVersion string, err error) {
	body, err := json.Marshal(&berthv1alpha1.GPUNode{
		TypeMeta:   gpuNodeType,
		ObjectMeta: metav1.ObjectMeta{Name: c.node},
		Status:     *status,
	})
	if err != nil {
		return "", fmt.Errorf("encode GPUNode: %w", err)
	}
	version, err := c.applyStatus(ctx, body)
	if apierrors.IsNotFound(err) {
		if err := c.createGPUNode(ctx); err != nil {
			return "", err
		}
		version, err = c.applyStatus(ctx, body)
	}
	if err != nil {
		return "", fmt.Errorf("apply status of GPUNode: %w", err)
	}
	return version, nil
}

func (c *Client) applyStatus(ctx context.Context, body []byte) (string, error) {
	raw, err := c.rest.Patch(types.ApplyYAMLPatchType).AbsPath(c.gpuNodePath(), "status").
		Param("fieldManager", FieldManager).Param("force", "true").
		// Only the resource version is needed of what was written.
		SetHeader("Accept", metadataOnly).
		Body(body).Do(ctx).Raw()
	if err != nil {
		return "", err
	}
	return versionIn(raw)
}

// createGPUNode makes an empty GPUNode, owned by the Node so that it goes when the Node does.
func (c *Client) createGPUNode(ctx context.Context) error {
	body, err := json.Marshal(&berthv1alpha1.GPUNode{
		TypeMeta:   gpuNodeType,
		ObjectMeta: metav1.ObjectMeta{Name: c.node, OwnerReferences: c.owner(ctx)},
	})
	if err != nil {
		return fmt.Errorf("encode GPUNode: %w", err)
	}
	return c.create(ctx, "GPUNode", body, "/apis", berthv1alpha1.GroupName, "v1alpha1", "gpunodes")
}

// RenewLease writes now as the renew time of the node's Lease, which it makes if there is none.
func (c *Client) RenewLease(ctx context.Context, now time.Time) error {
	renewTime := metav1.NewMicroTime(now)
	seconds := int32(leaseDuration.Seconds())
	spec := coordinationv1.LeaseSpec{
		HolderIdentity:       &c.node,
		LeaseDurationSeconds: &seconds,
		RenewTime:            &renewTime,
	}
	// A patch needs no resource version, and so no read before.
	patch, err := json.Marshal(map[string]any{"spec": &spec})
	if err != nil {
		return fmt.Errorf("encode Lease: %w", err)
	}
	leases := []string{"/apis", "coordination.k8s.io", "v1", "namespaces", berthv1alpha1.Namespace, "leases"}
	err = c.rest.Patch(types.MergePatchType).AbsPath(append(leases, c.node)...).
		Param("fieldManager", FieldManager).SetHeader("Accept", runtime.ContentTypeJSON).
		Body(patch).Do(ctx).Error()
	if !apierrors.IsNotFound(err) {
		if err != nil {
			return fmt.Errorf("renew Lease: %w", err)
		}
		return nil
	}
	body, err := json.Marshal(&coordinationv1.Lease{
		TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{
			Name:            c.node,
			Namespace:       berthv1alpha1.Namespace,
			Labels:          map[string]string{"app.kubernetes.io/name": FieldManager},
			OwnerReferences: c.owner(ctx),
		},
		Spec: spec,
	})
	if err != nil {
		return fmt.Errorf("encode Lease: %w", err)
	}
	return c.create(ctx, "Lease", body, leases...)
}

// create makes an object; that it exists already is no error.
func (c *Client) create(ctx context.Context, kind string, body []byte, path ...string) error {
	err := c.rest.Post().AbsPath(path...).Param("fieldManager", FieldManager).
		SetHeader("Content-Type", runtime.ContentTypeJSON).SetHeader("Accept", runtime.ContentTypeJSON).
		Body(body).Do(ctx).Error()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create %s: %w", kind, err)
	}
	return nil
}

// owner refers to the Node; nil if it cannot be read, which costs no more than garbage collection.
func (c *Client) owner(ctx context.Context) []metav1.OwnerReference {
	raw, err := c.rest.Get().AbsPath("/api/v1/nodes", c.node).
		SetHeader("Accept", metadataOnly).Do(ctx).Raw()
	if err != nil {
		return nil
	}
	var node metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &node); err != nil || node.UID == "" {
		return nil
	}
	return []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: c.node, UID: node.UID}}
}

func (c *Client) gpuNodePath() string {
	return "/apis/" + berthv1alpha1.GroupName + "/v1alpha1/gpunodes/" + c.node
}

var gpuNodeType = metav1.TypeMeta{APIVersion: berthv1alpha1.GroupName + "/v1alpha1", Kind: "GPUNode"}
