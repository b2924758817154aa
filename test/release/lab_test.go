// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestLabFromItsTarball runs the demo of a lab that was downloaded, with nothing else of this repository.
func TestLabFromItsTarball(t *testing.T) {
	m := madeRelease(t)
	dir := t.TempDir()
	m.run(t, nil, "tar", "-C", dir, "-xzf", m.file("berth-lab-"+m.version+"-linux-"+runtime.GOARCH+".tar.gz"))
	out := m.run(t, nil, filepath.Join(dir, "berth-lab-"+m.version, "berth-lab"), "demo", "--no-color")
	for _, want := range []string{"NVIDIA H100 80GB HBM3", "BOOKED", "Pending pods"} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not show %q:\n%s", want, out)
		}
	}
}

// testLabImage runs the same by the container engine, where one answers.
func (p *published) testLabImage(t *testing.T) {
	if _, _, err := p.try(t.Context(), nil, "docker", "info"); err != nil {
		t.Skip("no container engine answers")
	}
	out := p.run(t, nil, "docker", "run", "--rm", p.to+"/berth-lab:"+p.version, "demo", "--no-color")
	if !strings.Contains(out, "NVIDIA H100 80GB HBM3") {
		t.Errorf("the demo shows no map:\n%s", out)
	}
	p.run(t, nil, "docker", "image", "rm", p.to+"/berth-lab:"+p.version)
}
