// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/controller-manager/pkg/informerfactory"
)

const (
	// resyncPeriod is how often informers show everything to the controllers again, as in kube-controller-manager.
	resyncPeriod = 12 * time.Hour
	// discoveryPeriod is how often it is asked which resources there are.
	discoveryPeriod = 30 * time.Second
)

// shared is what the controllers use together.
type shared struct {
	config *rest.Config
	client kubernetes.Interface
	// metadata reads and writes the metadata of objects of any kind.
	metadata  metadata.Interface
	mapper    *restmapper.DeferredDiscoveryRESTMapper
	informers informers.SharedInformerFactory
	// any has the typed informers where there are such, else those of metadata.
	any informerfactory.InformerFactory
	// started is closed when the informers are started.
	started chan struct{}
}

func newShared(ctx context.Context, config *rest.Config) (*shared, error) {
	s := &shared{config: rest.AddUserAgent(rest.CopyConfig(config), "kube-controller-manager"), started: make(chan struct{})}
	binary := rest.CopyConfig(s.config)
	binary.ContentType, binary.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	var err error
	if s.client, err = kubernetes.NewForConfig(binary); err != nil {
		return nil, err
	}
	if s.metadata, err = metadata.NewForConfig(s.config); err != nil {
		return nil, err
	}
	s.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(s.client.Discovery()))
	go wait.UntilWithContext(ctx, func(context.Context) { s.mapper.Reset() }, discoveryPeriod)
	s.informers = informers.NewSharedInformerFactoryWithOptions(s.client, resyncPeriod, informers.WithTransform(withoutManagedFields))
	s.any = informerfactory.NewInformerFactory(s.informers, metadatainformer.NewSharedInformerFactoryWithOptions(
		s.metadata, resyncPeriod, metadatainformer.WithTransform(withoutManagedFields)))
	return s, nil
}

// start starts the informers that the controllers have asked for.
func (s *shared) start(ctx context.Context) {
	s.informers.Start(ctx.Done())
	s.any.Start(ctx.Done())
	close(s.started)
}

// withoutManagedFields spares the memory of what no controller reads.
func withoutManagedFields(obj any) (any, error) {
	if accessor, err := meta.Accessor(obj); err == nil { // else it is no object
		accessor.SetManagedFields(nil)
	}
	return obj, nil
}
