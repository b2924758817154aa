// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster reads from the API server what the tools for people show.
package cluster

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/berthclient"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// Client reads one cluster.
type Client struct {
	kube  kubernetes.Interface
	berth rest.Interface
	clock *serverClock
	// config is that of the cluster, and tells the clock.
	config *rest.Config
}

// New returns a client of the cluster of a configuration.
func New(config *rest.Config) (*Client, error) {
	c := &Client{clock: &serverClock{}}
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &clockReader{next, c.clock} })
	if config.QPS == 0 {
		config.QPS, config.Burst = 50, 100 // a person waits
	}
	c.config = rest.CopyConfig(config)
	var err error
	if c.berth, err = berthclient.NewReader(config); err != nil {
		return nil, err
	}
	// Nodes and pods are many, and protobuf is several times faster to read.
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.ContentType = runtime.ContentTypeProtobuf
	c.kube, err = kubernetes.NewForConfig(config)
	return c, err
}

// Read reads what a map of the GPUs is made from. Nodes, pods and GPUNodes are needed; what else cannot be read is
// named in the notes.
func (c *Client) Read(ctx context.Context) (*gpumap.Objects, error) {
	all := metav1.ListOptions{}
	o := &gpumap.Objects{}
	gpuNodes := &gpunode.List{}
	if err := c.berth.Get().Resource("gpunodes").Do(ctx).Into(gpuNodes); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("the cluster has no GPUNodes: is Berth installed? (%w)", err)
		}
		return nil, needed("GPUNodes", err)
	}
	for i := range gpuNodes.Items {
		gpuNodes.Items[i].Decode()
		addReport(o, &gpuNodes.Items[i])
	}
	nodes, err := c.kube.CoreV1().Nodes().List(ctx, all)
	if err != nil {
		return nil, needed("nodes", err)
	}
	o.Nodes = nodes.Items
	pods, err := c.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, all)
	if err != nil {
		return nil, needed("pods", err)
	}
	o.Pods = pods.Items
	return o, c.readMore(ctx, o)
}

// readMore reads what a map is better with, and the time.
func (c *Client) readMore(ctx context.Context, o *gpumap.Objects) error {
	all := metav1.ListOptions{}
	leases, err := c.kube.CoordinationV1().Leases(berthv1alpha1.Namespace).List(ctx, all)
	switch {
	case err == nil:
		o.Leases = leases.Items
	case unreadable(err):
		o.LeasesUnknown = true
		o.Notes = append(o.Notes, "Leases in "+berthv1alpha1.Namespace+" could not be read, so nodes whose agent is silent are not shown as stale")
	default:
		return fmt.Errorf("list Leases: %w", err)
	}
	profiles := &berthv1alpha1.ModelProfileList{}
	err = c.berth.Get().Resource("modelprofiles").Do(ctx).Into(profiles)
	switch {
	case err == nil:
		o.Profiles = profiles.Items
	case unreadable(err):
		o.Notes = append(o.Notes, "ModelProfiles could not be read, so it is not shown why the size of a model is not known")
	default:
		return fmt.Errorf("list ModelProfiles: %w", err)
	}
	if err := c.readDRA(ctx, o); err != nil {
		return err
	}
	o.Time = c.clock.now()
	return nil
}

// readDRA reads what claims hold. A cluster without that API has none.
func (c *Client) readDRA(ctx context.Context, o *gpumap.Objects) error {
	slices, err := c.kube.ResourceV1().ResourceSlices().List(ctx, metav1.ListOptions{})
	if err == nil {
		o.Slices = slices.Items
		var claims *resourcev1.ResourceClaimList
		if claims, err = c.kube.ResourceV1().ResourceClaims(metav1.NamespaceAll).List(ctx, metav1.ListOptions{}); err == nil {
			o.Claims = claims.Items
		}
	}
	switch {
	case err == nil || apierrors.IsNotFound(err):
	case apierrors.IsForbidden(err):
		o.Notes = append(o.Notes, "ResourceSlices and ResourceClaims could not be read, so it is not shown which GPUs claims hold")
	default:
		return fmt.Errorf("list what resource claims hold: %w", err)
	}
	return nil
}

// addReport adds a report that was decoded.
func addReport(o *gpumap.Objects, object *gpunode.Object) {
	if gn := object.GPUNode(); gn != nil {
		o.GPUNodes = append(o.GPUNodes, *gn)
		return
	}
	if o.Unreadable == nil {
		o.Unreadable = map[string]string{}
	}
	o.Unreadable[object.Name] = object.Problem
}

// GPUNodeNames returns the names of the nodes that have a GPUNode.
func (c *Client) GPUNodeNames(ctx context.Context) ([]string, error) {
	list := &gpunode.List{}
	if err := c.berth.Get().Resource("gpunodes").Do(ctx).Into(list); err != nil {
		return nil, fmt.Errorf("list GPUNodes: %w", err)
	}
	names := make([]string, len(list.Items))
	for i := range list.Items {
		names[i] = list.Items[i].Name
	}
	return names, nil
}

// serverClock is the API server's clock, as the headers of its responses tell it.
type serverClock struct {
	mu sync.Mutex
	// ahead is how far it is ahead of this machine's.
	ahead time.Duration
}

func (c *serverClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// clockReader reads the clock of whoever answers.
type clockReader struct {
	next  http.RoundTripper
	clock *serverClock
}

func (r *clockReader) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := r.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		r.clock.mu.Lock()
		defer r.clock.mu.Unlock()
		// The header has whole seconds, cut: a difference below that is none.
		ahead := time.Until(date)
		if ahead > -time.Second && ahead <= 0 {
			ahead = 0
		}
		r.clock.ahead = ahead
	}
	return response, nil
}
