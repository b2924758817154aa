// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"slices"
	"strings"
	"testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent/cdispec"
)

// checkSpecification has the agent write its specification beside the toolkit's own one for pods that manage GPUs, which
// nvidia-ctk writes as the GPU operator's toolkit does, and makes containers by its names: by the toolkit's runtime in
// mode cdi, whose CDI library is the one that containerd and CRI-O have for what an NRI plugin adds.
func checkSpecification(t *testing.T, version, binaries string) {
	n := newNode(t, version, binaries)
	packages("[nvidia-container-runtime]\nmode = \"cdi\"\n[nvidia-container-runtime.modes.cdi]\nspec-dirs = [\"ROOT/var/run/cdi\"]")(t, n, binaries)
	dir := n.path(t, "/var/run/cdi")
	n.ctk(t, binaries, "cdi", "generate", "--mode=management", "--vendor=management.nvidia.com", "--driver-root="+n.root,
		"--output="+n.path(t, "/var/run/cdi/management.nvidia.com-gpu.yaml"), "--nvidia-cdi-hook-path=/usr/bin/nvidia-cdi-hook",
		"--ldconfig-path=/sbin/ldconfig")
	w := &cdispec.Writer{Dir: dir}
	if err := w.Update(n.files()); err != nil {
		t.Fatal(err)
	}
	booked := []string{n.state.GPUs[1].UUID, n.state.GPUs[3].UUID}
	o := n.start(t, "nvidia", berthv1alpha1.CDIKind+"="+strings.Join(booked, ","+berthv1alpha1.CDIKind+"="))
	if o.failure != "" || !slices.Equal(o.devices, booked) {
		t.Errorf("the container got %v and failed by %q, want %v", o.devices, o.failure, booked)
	}
	if !slices.ContainsFunc(o.mounts, func(m string) bool { return strings.HasSuffix(m, "/libcuda.so."+n.state.Driver) }) {
		t.Errorf("the container has no driver: %v", o.mounts)
	}
	if o := n.start(t, "nvidia", berthv1alpha1.CDIKind+"=GPU-none"); !strings.Contains(o.failure, "unresolvable CDI devices berth.dev/gpu=GPU-none") {
		t.Errorf("a GPU that the node does not have: %+v", o)
	}
}

// files returns the device nodes of the node's GPUs.
func (n *node) files() map[string]string {
	files := map[string]string{}
	for i, g := range n.state.GPUs {
		files[g.UUID] = deviceFile(i)
	}
	return files
}
