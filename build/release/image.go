// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// nameAnnotation says which image of a layout a descriptor is of; tools such as skopeo find it by that.
	nameAnnotation = "org.opencontainers.image.ref.name"
	// nobody is the user of all images. docs/agent.md says why the agent's pods override it.
	nobody = "65532:65532"
	bin    = "usr/local/bin"
	docs   = "usr/share/doc/berth"
)

// compressed is how layers are made.
var compressed = []tarball.LayerOption{
	tarball.WithCompressedCaching, tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithMediaType(types.OCILayer),
}

// imageOptions say what an image is made of.
type imageOptions struct {
	name, version, revision string
	// binaries is the folder with linux-ARCH/FILE; base the one with ARCH/*.tar, the layers below, or empty.
	binaries, base string
	// files are the programs of the image. The first is run.
	files []string
	// docs are files of its documentation, in which {arch} stands for the architecture.
	docs []string
	when time.Time
}

func imageCommand(args []string, out io.Writer) error {
	f := flags("image")
	var o imageOptions
	f.StringVar(&o.name, "name", "", "name of the image, such as berth-agent")
	f.StringVar(&o.revision, "revision", "", "commit that it is built of")
	f.StringVar(&o.binaries, "binaries", "", "folder with linux-ARCH/PROGRAM")
	f.StringVar(&o.base, "base", "", "folder with ARCH/*.tar, which are the layers below the programs")
	f.Func("doc", "file for "+docs+"; {arch} in its name stands for the architecture, and it may be repeated", func(file string) error {
		o.docs = append(o.docs, file)
		return nil
	})
	dir := f.String("layout", "", "OCI layout to put it into, which is made if it is not there")
	arches := f.String("arch", "", "architectures, such as amd64,arm64")
	if err := f.parse(args, "name", "version", "revision", "binaries", "layout", "arch"); err != nil {
		return err
	}
	if o.files = f.Args(); len(o.files) == 0 {
		return fmt.Errorf("image: name the programs")
	}
	o.version = f.version
	var err error
	if o.when, err = date(); err != nil {
		return err
	}
	index, err := newIndex(o, strings.Split(*arches, ","))
	if err != nil {
		return err
	}
	if err := put(*dir, o.name, index); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s@%s\n", o.name, digest)
	return err
}

// put writes an index into a layout, in place of one of the same name.
func put(dir, name string, index v1.ImageIndex) error {
	path, err := layout.FromPath(dir)
	if os.IsNotExist(err) {
		path, err = layout.Write(dir, empty.Index)
	}
	if err != nil {
		return err
	}
	return path.ReplaceIndex(index, match.Name(name), layout.WithAnnotations(map[string]string{nameAnnotation: name}))
}

// newIndex makes an image of each architecture, and the index of them.
func newIndex(o imageOptions, arches []string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range arches {
		image, err := o.image(arch)
		if err != nil {
			return nil, fmt.Errorf("%s for %s: %w", o.name, arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return mutate.Annotations(index, o.labels()).(v1.ImageIndex), nil
}

// labels are those of build/images.sh, too.
func (o imageOptions) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":    o.name,
		"org.opencontainers.image.source":   homepage,
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.version":  o.version,
		"org.opencontainers.image.revision": o.revision,
		"org.opencontainers.image.created":  o.when.Format(time.RFC3339),
	}
}

func (o imageOptions) image(arch string) (v1.Image, error) {
	var layers []mutate.Addendum
	add := func(layer v1.Layer, by string) {
		layers = append(layers, mutate.Addendum{
			Layer: layer, MediaType: types.OCILayer,
			History: v1.History{Created: v1.Time{Time: o.when}, CreatedBy: by},
		})
	}
	bases, err := filepath.Glob(filepath.Join(o.base, arch, "*.tar"))
	if err != nil {
		return nil, err
	}
	if o.base == "" {
		bases = nil
	} else if len(bases) == 0 {
		return nil, fmt.Errorf("%s has no layers for %s", o.base, arch)
	}
	slices.Sort(bases)
	for _, file := range bases {
		layer, err := tarball.LayerFromFile(file, compressed...)
		if err != nil {
			return nil, err
		}
		add(layer, "Debian's package "+strings.TrimSuffix(filepath.Base(file), ".tar"))
	}
	programs, err := o.programs(arch)
	if err != nil {
		return nil, err
	}
	add(programs, "build/release image")

	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.Append(image, layers...); err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: o.when}
	config.Config = v1.Config{
		User: nobody, Entrypoint: []string{"/" + bin + "/" + o.files[0]}, Labels: o.labels(),
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	return mutate.Annotations(image, o.labels()).(v1.Image), nil
}

// programs is the layer of the programs and what is told of them. It has /tmp, which programs may need and an image without a base lacks.
func (o imageOptions) programs(arch string) (v1.Layer, error) {
	entries := []entry{{name: "tmp", mode: fs.ModeDir | fs.ModeSticky | 0o777}}
	add := func(folder string, files []string) error {
		if len(files) == 0 {
			return nil
		}
		for parent := range parents(folder) {
			if e := (entry{name: parent, mode: fs.ModeDir | 0o755}); !slices.ContainsFunc(entries, func(o entry) bool { return o.name == e.name }) {
				entries = append(entries, e)
			}
		}
		for _, file := range files {
			e, err := read(file, folder+"/"+filepath.Base(file))
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	}
	var programs, texts []string
	for _, name := range o.files {
		programs = append(programs, filepath.Join(o.binaries, "linux-"+arch, name))
	}
	for _, doc := range o.docs {
		texts = append(texts, strings.ReplaceAll(doc, "{arch}", arch))
	}
	if err := errors.Join(add(bin, programs), add(docs, texts)); err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	if err := writeTar(&layer, entries, o.when); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil }
	return tarball.LayerFromOpener(open, compressed...)
}

// parents returns the folders of a path, outermost first.
func parents(folder string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := range len(folder) + 1 {
			if i == len(folder) || folder[i] == '/' {
				if !yield(folder[:i]) {
					return
				}
			}
		}
	}
}
