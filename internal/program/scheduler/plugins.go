// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	"sigs.k8s.io/controller-runtime/pkg/log"
	_ "sigs.k8s.io/scheduler-plugins/apis/config/scheme" // so that kube-scheduler reads the plugin's arguments
	"sigs.k8s.io/scheduler-plugins/pkg/noderesourcetopology"
)

// withTopology registers NodeResourceTopologyMatch, which aligns CPUs and memory beside Berth's GPUs. It does nothing
// unless a profile enables it.
func withTopology() app.Option {
	return app.WithPlugin(noderesourcetopology.Name, newTopology)
}

func newTopology(ctx context.Context, args runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
	log.SetLogger(klog.FromContext(ctx)) // its client complains without one
	return noderesourcetopology.New(ctx, args, handle)
}
