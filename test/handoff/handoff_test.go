// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent/containerruntime"
	"github.com/berth-dev/berth/test/nvmlmock"
)

func TestBookedGPUsArrive(t *testing.T) {
	if testing.Short() {
		t.Skip("builds three versions of the NVIDIA container toolkit")
	}
	for _, version := range Versions {
		t.Run(version, func(t *testing.T) {
			binaries := t.TempDir()
			if err := Build(version, binaries); err != nil {
				t.Fatal(err)
			}
			if _, err := nvmlmock.Build(binaries); errors.Is(err, nvmlmock.ErrNoCompiler) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			t.Run("the agent's own specification, for NRI", func(t *testing.T) { checkSpecification(t, version, binaries) })
			for _, c := range configurations {
				if slices.Contains(c.without, version) {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					n := newNode(t, version, binaries)
					c.install(t, n, binaries)
					for handler, want := range c.want {
						t.Run("handler="+handler, func(t *testing.T) { n.check(t, handler, want) })
					}
				})
			}
		})
	}
}

// check starts a container by each form, and compares what it gets, what the table says, and what the agent finds out.
func (n *node) check(t *testing.T, handler string, want wanted) {
	booked := []string{n.state.GPUs[1].UUID, n.state.GPUs[3].UUID}
	var arrives []berthv1alpha1.DeviceForm
	limited := map[berthv1alpha1.DeviceForm]int{} // GPUs whose limit the driver would be told
	for _, form := range []berthv1alpha1.DeviceForm{berthv1alpha1.DeviceFormCDI, berthv1alpha1.DeviceFormUUID} {
		o := n.start(t, handler, visible(form, booked))
		switch {
		case slices.Equal(o.devices, booked) && o.failure == "":
			arrives = append(arrives, form)
			limited[form] = len(o.limits)
		case o.failure == "" && len(o.devices) > 0:
			t.Errorf("%s: the container got %v, want %v or none", form, o.devices, booked)
		}
		if failure := want.failures[form]; !strings.Contains(o.failure, failure) || (failure == "") != (o.failure == "") {
			t.Errorf("%s: the container failed by %q, want %q", form, o.failure, failure)
		}
	}
	if diff := cmp.Diff(want.forms, arrives); diff != "" {
		t.Errorf("forms by which the booked GPUs arrive (-want +got):\n%s", diff)
	}
	found := containerruntime.Read(n.root, []string{"/"}, containerruntime.Node{Version: n.engine(t)})
	i := slices.IndexFunc(found.Runtimes, func(r berthv1alpha1.RuntimeHandOff) bool { return r.Handler == handler })
	if i < 0 {
		t.Fatalf("the agent does not find the handler: %+v, not read: %v", found.Runtimes, found.Unknown)
	}
	r := found.Runtimes[i]
	if diff := cmp.Diff(want.forms, r.Accepts); diff != "" || r.Mode != want.mode {
		t.Errorf("the agent finds mode %q, want %q, and forms (-want +got):\n%s", r.Mode, want.mode, diff)
	}
	checkLimits(t, &r, limited, len(booked))
	if r.Message == "" || len(r.Accepts) == 0 && !strings.Contains(r.Message, want.setting) {
		t.Errorf("the message %q does not name the setting %q", r.Message, want.setting)
	}
}

// visible returns the value of NVIDIA_VISIBLE_DEVICES for some GPUs.
func visible(form berthv1alpha1.DeviceForm, uuids []string) string {
	names := slices.Clone(uuids)
	for i := range names {
		if form == berthv1alpha1.DeviceFormCDI {
			names[i] = "runtime.nvidia.com/gpu=" + names[i]
		}
	}
	return strings.Join(names, ",")
}

// engine returns what the kubelet would call the node's container runtime.
func (n *node) engine(t *testing.T) string {
	if _, err := os.Stat(n.path(t, "/etc/crio/crio.conf")); err == nil {
		return "cri-o://1.34.0"
	}
	return "containerd://2.1.4"
}
