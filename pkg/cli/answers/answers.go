// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package answers says what the commands of kubectl berth say, before it is printed: each method is a question about a cluster, or
// about a file with a snapshot of one, and what it returns is the document that -o json prints.
package answers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/version"
	"github.com/berth-dev/berth/pkg/cli/check"
	"github.com/berth-dev/berth/pkg/cli/cluster"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/cli/usage"
	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/simulator"
)

// Source is what is asked about.
type Source struct {
	// Client asks a cluster. Where it is nil, File is asked about, which ReadFile reads anew for each question: what it returns is
	// changed by who asks.
	Client   *cluster.Client
	File     string
	ReadFile func(file string) (*simulator.Snapshot, error)
	// Namespace is that of what names none.
	Namespace string
}

// Snapshot returns what a scheduler reads.
func (s *Source) Snapshot(ctx context.Context) (*simulator.Snapshot, error) {
	var snapshot *simulator.Snapshot
	var err error
	if s.Client == nil {
		snapshot, err = s.ReadFile(s.File)
	} else {
		snapshot, err = s.Client.Snapshot(ctx, s.Namespace)
	}
	if err != nil {
		return nil, err
	}
	own := version.Tag()
	if tag := schedulerTag(snapshot); tag != "" && tag != own {
		snapshot.Notes = append(snapshot.Notes, fmt.Sprintf(
			"The scheduler of the cluster is of version %s, this program of %s: what they decide may differ", tag, own))
	}
	return snapshot, nil
}

// schedulerTag returns the tag of the image of the scheduler's pods; empty if there are none, or it has none.
func schedulerTag(s *simulator.Snapshot) string {
	for _, obj := range s.Objects {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.Namespace != berthv1alpha1.Namespace || pod.Labels[check.LabelName] != check.Scheduler {
			continue
		}
		if tag := check.ImageTag(pod); tag != "" {
			return tag
		}
	}
	return ""
}

// Map says what the GPUs of the named nodes hold, of all if none is named. It needs all of a cluster, for who else is on a GPU is
// what it shows.
func (s *Source) Map(ctx context.Context, nodes ...string) (*gpumap.Map, error) {
	if s.Client == nil {
		objects, settings, err := s.ofFile(ctx, "")
		if err != nil {
			return nil, err
		}
		return gpumap.Build(&objects.Objects, settings, nodes...)
	}
	settings, err := s.Client.Settings(ctx)
	if err != nil {
		return nil, err
	}
	objects, err := s.Client.Read(ctx)
	if err != nil {
		return nil, err
	}
	return gpumap.Build(objects, settings, nodes...)
}

// Usage says who uses what of the named nodes, of all if none is named. Only pods of a namespace count, of all if it is empty.
func (s *Source) Usage(ctx context.Context, by usage.By, namespace string, nodes ...string) (*usage.Usage, error) {
	objects, settings, err := s.Objects(ctx, namespace, by.NeedsOwners())
	if err != nil {
		return nil, err
	}
	return usage.Build(objects, settings, by, nodes...)
}

// Objects returns what is said of usage is made from, as far as it can be read, and the scheduler's arguments. owners says that the
// owners of what owns pods are needed.
func (s *Source) Objects(ctx context.Context, namespace string, owners bool) (*usage.Objects, gpumap.Settings, error) {
	if s.Client == nil {
		return s.ofFile(ctx, namespace)
	}
	settings, err := s.Client.Settings(ctx)
	if err != nil {
		return nil, settings, err
	}
	objects, err := s.Client.ReadUsage(ctx, cluster.UsageScope{Namespace: namespace, Fallback: s.Namespace, Owners: owners})
	return objects, settings, err
}

func (s *Source) ofFile(ctx context.Context, namespace string) (*usage.Objects, gpumap.Settings, error) {
	snapshot, err := s.Snapshot(ctx)
	if err != nil {
		return nil, gpumap.Settings{}, err
	}
	objects, settings, err := cluster.UsageOf(snapshot, namespace)
	if err != nil {
		return nil, settings, fmt.Errorf("%s: %w", s.File, err)
	}
	return objects, settings, nil
}

// WhatIf says what the scheduler would do if something were different.
func (s *Source) WhatIf(ctx context.Context, q *whatif.Question) (*whatif.Answer, error) {
	snapshot, err := s.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return whatif.Ask(ctx, snapshot, q)
}
