// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// testArtifactHub reads the repository's metadata as Artifact Hub does: the tag artifacthub.io beside the chart, and in it the one
// layer of its media type (https://artifacthub.io/docs/topics/repositories/helm-charts/#oci-support).
func (p *published) testArtifactHub(t *testing.T) {
	tag, err := name.NewTag(p.to + "/charts/berth:artifacthub.io")
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(tag)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	kind, err := layers[0].MediaType()
	if err != nil || kind != "application/vnd.cncf.artifacthub.repository-metadata.layer.v1.yaml" {
		t.Errorf("the layer is a %s, %v", kind, err)
	}
	content, err := layers[0].Compressed() // it is not: the blob is the file
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	got, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(p.repository, "charts", "artifacthub-repo.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("charts/artifacthub-repo.yml (-file +tag):\n%s", diff)
	}
}
