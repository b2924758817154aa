// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// index pulls the index of an image, by its tag.
func (p *published) index(t *testing.T, image string) v1.ImageIndex {
	t.Helper()
	tag, err := name.NewTag(p.to + "/" + image + ":" + p.version)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// platforms returns the names by digest of the images of an index.
func (p *published) platforms(t *testing.T, image string) []string {
	t.Helper()
	manifest, err := p.index(t, image).IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, m := range manifest.Manifests {
		refs = append(refs, p.to+"/"+image+"@"+m.Digest.String())
	}
	return refs
}

// testImages pulls each image for each architecture, and runs those of this machine's.
func (p *published) testImages(t *testing.T) {
	for image, program := range map[string]string{
		"berth-scheduler": "scheduler", "berth-controller": "controller", "berth-agent": "agent", "berth-lab": "berth-lab",
	} {
		manifest, err := p.index(t, image).IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range manifest.Manifests {
			arch := m.Platform.Architecture
			t.Run(image+" "+arch, func(t *testing.T) { p.testImage(t, image, program, m) })
		}
	}
}

func (p *published) testImage(t *testing.T, image, program string, m v1.Descriptor) {
	pulled, err := p.index(t, image).Image(m.Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := pulled.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	type facts struct{ OS, Architecture, User, Entrypoint, Version string }
	got := facts{config.OS, config.Architecture, config.Config.User, strings.Join(config.Config.Entrypoint, " "),
		config.Config.Labels["org.opencontainers.image.version"]}
	want := facts{"linux", m.Platform.Architecture, "65532:65532", "/usr/local/bin/" + program, p.version}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}

	root := t.TempDir()
	unpack(t, pulled, root)
	file, err := elf.Open(filepath.Join(root, "usr/local/bin", program))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[m.Platform.Architecture]
	if file.Machine != machine {
		t.Errorf("the program is for %s, want %s", file.Machine, machine)
	}
	licenses, err := os.ReadFile(filepath.Join(root, "usr/share/doc/berth/LICENSES.txt"))
	if err != nil {
		t.Fatal(err)
	}
	bill, err := os.ReadFile(p.made.file(image + "-linux-" + m.Platform.Architecture + ".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	licensed(t, string(licenses), bill)
	if _, err := os.Stat(filepath.Join(root, "usr/share/doc/berth/LICENSE")); err != nil {
		t.Errorf("Berth's own license: %v", err)
	}
	if m.Platform.Architecture != runtime.GOARCH {
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root may run what is in an image by chroot")
	}
	// All that it needs is in the image, and the image's user can run it.
	p.run(t, nil, "chmod", "755", root)
	out := p.run(t, nil, "chroot", "--userspec="+config.Config.User, root, config.Config.Entrypoint[0], "--version")
	if !strings.Contains(out, "commit") && !strings.Contains(out, "Kubernetes") {
		t.Errorf("the version is %q", out)
	}
}

// unpack writes the file system of an image to a folder.
func unpack(t *testing.T, image v1.Image, root string) {
	t.Helper()
	layers := mutate.Extract(image)
	defer layers.Close()
	archive, err := os.Create(filepath.Join(t.TempDir(), "image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if _, err := io.Copy(archive, layers); err != nil {
		t.Fatal(err)
	}
	(&made{}).run(t, nil, "tar", "-C", root, "-xf", archive.Name())
}
