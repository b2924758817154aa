// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/engineargs"
)

// start is a container of a public repository, and what its engine's documentation says that it asks for.
type start struct {
	Name      string           `json:"name"`
	Source    string           `json:"source"`
	Comment   string           `json:"comment,omitempty"`
	Container corev1.Container `json:"container"`
	// Config is the public configuration of its model, or of one of the same architecture and size, by its file.
	Config string `json:"config,omitempty"`
	// Fits are the kinds of GPU, of startKinds, that hold what it needs. Comment says why.
	Fits []string `json:"fits,omitempty"`
	Want says     `json:"want"`
}

// says is what a container says. Fields that are absent must not be said.
type says struct {
	// Engine is empty where nothing shows one.
	Engine           string             `json:"engine"`
	Model            string             `json:"model,omitempty"`
	TensorParallel   int64              `json:"tensorParallel,omitempty"`
	PipelineParallel int64              `json:"pipelineParallel,omitempty"`
	DataParallel     int64              `json:"dataParallel,omitempty"`
	Fraction         float64            `json:"fraction,omitempty"`
	Settings         estimator.Settings `json:"settings"`
	// Unknown is what cannot be known before the container starts.
	Unknown []string `json:"unknown,omitempty"`
}

func readStarts(t *testing.T) []start {
	t.Helper()
	files, err := filepath.Glob("testdata/starts/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all []start
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list []start
		if err := yaml.UnmarshalStrict(data, &list); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, list...)
	}
	if len(all) < 40 {
		t.Fatalf("%d starts, want at least 40", len(all))
	}
	return all
}

// TestPublicStartsAreReadRight compares what is read of containers as they stand in public with what they say.
func TestPublicStartsAreReadRight(t *testing.T) {
	for _, s := range readStarts(t) {
		t.Run(s.Name, func(t *testing.T) {
			line := commandLine(&s.Container)
			var got says
			engine, _ := engineargs.Engine(line)
			if engine != nil {
				got.Engine = string(engine.Name)
			}
			r := engineargs.Parse("", line)
			got.Model, got.Settings, got.Unknown = r.Model, r.Settings, r.Unknown
			got.Settings.Runtime = ""
			if engine != nil {
				got.Settings.Version = engine.ReleaseOf(s.Container.Image)
			}
			got.TensorParallel, got.PipelineParallel, got.DataParallel = r.TensorParallel.Value, r.PipelineParallel.Value, r.DataParallel.Value
			got.Fraction = float64(r.GPUMemoryUtilization.Value) / 1e6
			if diff := gocmp.Diff(s.Want, got); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", cmp.Or(s.Comment, s.Source), diff)
			}
			if len(r.Invalid) > 0 {
				t.Errorf("taken to make no sense: %v", r.Invalid)
			}
		})
	}
}
