// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"k8s.io/client-go/rest"

	"github.com/berth-dev/berth/pkg/cli/answers"
	"github.com/berth-dev/berth/pkg/cli/cluster"
	"github.com/berth-dev/berth/pkg/cli/snapshotfile"
	"github.com/berth-dev/berth/pkg/simulator"
)

// World is what is looked at: a cluster, or a snapshot of one.
type World struct {
	source    *answers.Source
	session   Session
	revisions *revisions
	// watcher and lists are nil for a file.
	watcher *watcher
	lists   *lists
}

// OfFile is the world of a snapshot. It is read once. namespace is that of what names none.
func OfFile(file, namespace string) (*World, error) {
	snapshot, err := snapshotfile.Read(file)
	if err != nil {
		return nil, err
	}
	return &World{
		source: &answers.Source{File: file, Namespace: namespace, ReadFile: func(string) (*simulator.Snapshot, error) {
			return copyOf(snapshot), nil
		}},
		session:   Session{File: file, Namespace: namespace},
		revisions: newRevisions(),
	}, nil
}

// copyOf returns a snapshot for others to change.
func copyOf(s *simulator.Snapshot) *simulator.Snapshot {
	c := *s
	c.Objects = slices.Clone(s.Objects)
	for i := range c.Objects {
		c.Objects[i] = c.Objects[i].DeepCopyObject()
	}
	c.Notes, c.Missing = slices.Clone(s.Notes), slices.Clone(s.Missing)
	return &c
}

// OfCluster is the world of the cluster of a configuration, which a kubeconfig calls by a name; Run keeps it up to date.
func OfCluster(config *rest.Config, name, namespace string) (*World, error) {
	w := &World{
		session:   Session{Context: name, Server: config.Host, Namespace: namespace},
		revisions: newRevisions(), lists: newLists(),
	}
	var err error
	if w.watcher, err = newWatcher(config, w.revisions.changed); err != nil {
		return nil, err
	}
	kept := rest.CopyConfig(config)
	kept.Wrap(func(next http.RoundTripper) http.RoundTripper { return &keeper{lists: w.lists, next: next} })
	client, err := cluster.New(kept)
	if err != nil {
		return nil, err
	}
	w.source = &answers.Source{Client: client, Namespace: namespace}
	return w, nil
}

// Run follows the changes of a cluster until ctx ends.
func (w *World) Run(ctx context.Context) {
	if w.watcher == nil {
		return
	}
	var group sync.WaitGroup
	group.Go(func() { w.watcher.run(ctx, w.begun) })
	group.Go(func() { w.revisions.run(ctx, w.drop) })
	group.Wait()
}

// begun is told that a resource is being watched from now on.
func (w *World) begun(resource string) {
	if w.lists.has(resource) {
		w.revisions.changed(resource)
	}
}

// drop forgets what may have changed: what was told of, with the Events that tell why, or what nobody tells of.
func (w *World) drop(dirty map[string]bool) {
	w.lists.drop(func(resource string) bool {
		if dirty == nil {
			return !w.watcher.isWatched(resource)
		}
		return dirty[resource] || resource == "events"
	})
}

func (w *World) live() Live {
	if w.watcher == nil {
		return LiveNever
	}
	return w.watcher.live()
}
