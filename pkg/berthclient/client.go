// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package berthclient makes REST clients of Berth's own API, which has too few kinds to be worth a generated clientset.
package berthclient

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// New returns a client of berth.dev/v1alpha1 that knows the types of package v1alpha1.
func New(config *rest.Config) (rest.Interface, error) {
	return newClient(config, berthv1alpha1.AddToScheme)
}

// NewReader is New for those who read the GPUNodes of many: it decodes them into gpunode.Objects, each of which is then
// decoded alone.
func NewReader(config *rest.Config) (rest.Interface, error) {
	return newClient(config, gpunode.AddToScheme)
}

func newClient(config *rest.Config, addToScheme func(*runtime.Scheme) error) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	if err := addToScheme(scheme); err != nil {
		return nil, err
	}
	c := rest.CopyConfig(config)
	c.APIPath = "/apis"
	c.GroupVersion = &berthv1alpha1.GroupVersion
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	// Custom resources are not served as protobuf, which the caller's own configuration may ask for.
	c.ContentType = runtime.ContentTypeJSON
	c.AcceptContentTypes = runtime.ContentTypeJSON
	client, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", berthv1alpha1.GroupVersion, err)
	}
	return client, nil
}
