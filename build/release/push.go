// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// pushCommand copies the images of a layout to a registry. It writes a line of each, for who signs them: the
// architecture, or "index" for that of all of them, and REPOSITORY@DIGEST.
func pushCommand(args []string, out io.Writer) error {
	f := flags("push")
	dir := f.String("layout", "", "OCI layout with the images")
	to := f.String("to", "", "registry and folder of it, such as registry.example.com/berth")
	if err := f.parse(args, "version", "layout", "to"); err != nil {
		return err
	}
	index, err := layout.ImageIndexFromPath(*dir)
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, descriptor := range manifest.Manifests {
		image, err := index.ImageIndex(descriptor.Digest)
		if err != nil {
			return err
		}
		tag, err := name.NewTag(*to + "/" + descriptor.Annotations[nameAnnotation] + ":" + f.version)
		if err != nil {
			return err
		}
		if err := remote.WriteIndex(tag, image, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return fmt.Errorf("push %s: %w", tag, err)
		}
		fmt.Fprintln(out, "index", tag.Digest(descriptor.Digest.String()))
		platforms, err := image.IndexManifest()
		if err != nil {
			return err
		}
		for _, platform := range platforms.Manifests {
			fmt.Fprintln(out, platform.Platform.Architecture, tag.Digest(platform.Digest.String()))
		}
	}
	return nil
}

// metadataCommand pushes the file by which Artifact Hub knows whose a chart is
// (https://artifacthub.io/docs/topics/repositories/helm-charts/#oci-support).
func metadataCommand(args []string, _ io.Writer) error {
	f := flags("metadata")
	to := f.String("to", "", "repository of the chart, such as registry.example.com/berth/charts/berth")
	if err := f.parse(args, "to"); err != nil {
		return err
	}
	if f.NArg() != 1 {
		return fmt.Errorf("metadata: name the file")
	}
	data, err := os.ReadFile(f.Arg(0))
	if err != nil {
		return err
	}
	tag, err := name.NewTag(*to + ":artifacthub.io")
	if err != nil {
		return err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.cncf.artifacthub.config.v1+yaml")
	image, err = mutate.Append(image, mutate.Addendum{
		Layer:     static.NewLayer(data, "application/vnd.cncf.artifacthub.repository-metadata.layer.v1.yaml"),
		MediaType: "application/vnd.cncf.artifacthub.repository-metadata.layer.v1.yaml",
	})
	if err != nil {
		return err
	}
	return remote.Write(tag, image, remote.WithAuthFromKeychain(authn.DefaultKeychain))
}
