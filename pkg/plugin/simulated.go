// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/utils/clock"

	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/verdicts"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// World is where a plugin lives that runs in no cluster: see package simulator. What it writes goes through the
// framework's client and recorder, as in a cluster.
type World struct {
	Clock clock.WithDelayedExecution
	// InformerOf returns the informer of a kind that the framework has none of: GPUNodes, the agents' Leases and
	// ModelProfiles. It tells of all there is before the first pod is placed.
	InformerOf func(resource, namespace string, example runtime.Object) cache.SharedIndexInformer
	// Later runs something once the event is over that is being handled.
	Later func(func())
}

// Arguments returns the arguments of the plugin, defaults applied.
func (pl *Plugin) Arguments() config.Args { return *pl.args }

// Verdicts returns what the pod of a cycle sees of each node, by name; nil if it asks for no GPU memory, or its cycle ended
// before nodes were looked at.
func (pl *Plugin) Verdicts(state fwk.CycleState) []verdicts.Node { return pl.verdicts.All(state) }

// NewIn makes the plugin for a world. It leads, alone, so there is no term to begin; and its books are right once the
// informers have told, for no Binding of another leader is under way. Nobody is evicted for driver upgrades, which is no
// matter of a pod's place.
func NewIn(ctx context.Context, obj runtime.Object, handle fwk.Handle, w World) (*Plugin, error) {
	args, err := config.Decode(obj)
	if err != nil {
		return nil, err
	}
	alone := leader.New()
	alone.Alone()
	pl, err := newPlugin(ctx, args, handle, w.Clock, alone)
	if err != nil {
		return nil, err
	}
	pl.wake.Later = w.Later
	pl.announcer = words.AtOnce(func(p words.Placement) {
		pl.world.Event(p.Pod, nil, corev1.EventTypeNormal, words.EventAllocated, words.ActionAllocate, p.Note)
	})
	if err := pl.feed.From(w.InformerOf); err != nil {
		return nil, err
	}
	pl.recovery.SetDone(true)
	return pl, nil
}
