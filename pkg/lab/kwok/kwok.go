// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kwok runs KWOK, which plays the kubelets of the lab: nodes become Ready, bound pods become Running and
// Ready, and deleted pods go away when their grace period is over. The stages folder says how, in KWOK's own terms.
package kwok

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/apis/v1alpha1"
	"sigs.k8s.io/kwok/pkg/kwok/controllers"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/yaml"
)

// Annotations of a pod that say how its simulated containers behave.
const (
	// AnnotationReadyAfter delays readiness by a Go duration ("5s") after the start, as loading a model does; any
	// other value, such as "never", delays it for good. A pod without it is Ready as soon as it runs.
	AnnotationReadyAfter = "lab.berth.dev/ready-after"
	// AnnotationRunFor ends the pod as Succeeded when it has run for this Go duration. Pods of Jobs end after a
	// second without it; all others run until they are deleted.
	AnnotationRunFor = "lab.berth.dev/run-for"
)

// parallelism is how many stages of one kind are played at once.
const parallelism = 16

//go:embed stages/*.yaml
var stageFiles embed.FS

// Start plays the kubelet of every Node of the cluster until ctx is cancelled, as the user of config, and writes
// its log to w.
func Start(ctx context.Context, config *rest.Config, w io.Writer) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	stages, err := loadStages()
	if err != nil {
		return err
	}
	controller, err := controllers.NewController(controllers.Config{
		TypedClient:               client,
		RESTClient:                client.Discovery().RESTClient(),
		ManageAllNodes:            true,
		LocalStages:               stages,
		NodePlayStageParallelism:  parallelism,
		PodPlayStageParallelism:   parallelism,
		PodsOnNodeSyncParallelism: parallelism,
		NodeIP:                    "127.0.0.1",
		CIDR:                      "10.0.0.1/16",
	})
	if err != nil {
		return err
	}
	return controller.Start(log.NewContext(ctx, log.NewLogger(w, log.LevelWarn)))
}

func loadStages() (map[internalversion.StageResourceRef][]*internalversion.Stage, error) {
	files, err := fs.Glob(stageFiles, "stages/*.yaml")
	if err != nil {
		return nil, err
	}
	stages := make(map[internalversion.StageResourceRef][]*internalversion.Stage)
	for _, file := range files {
		data, err := stageFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var stage v1alpha1.Stage
		if err := yaml.UnmarshalStrict(data, &stage); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		internal, err := internalversion.ConvertToInternalStage(&stage)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		stages[internal.Spec.ResourceRef] = append(stages[internal.Spec.ResourceRef], internal)
	}
	return stages, nil
}
