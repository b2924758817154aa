// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package imports

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestFirstLooksCompileLittle: how long a first look takes is how many packages it compiles. docs/performance.md says
// which, and why; a limit is raised knowingly, and there too.
func TestFirstLooksCompileLittle(t *testing.T) {
	tests := []struct {
		program string
		// most is how many packages it may consist of, those of the standard library among them.
		most int
		// without are prefixes of packages that it must not contain, but for those of except.
		without, except []string
	}{
		{
			program: "cmd/berth-lab", most: 2570,
			without: []string{
				"k8s.io/kubernetes/cmd/kube-controller-manager/app", "k8s.io/kubectl", "k8s.io/kubernetes/cmd/kubectl",
				"k8s.io/cli-runtime", "sigs.k8s.io/kustomize",
				"github.com/google/cadvisor", "k8s.io/kubernetes/pkg/kubelet", "k8s.io/cri-client",
				"k8s.io/kubernetes/pkg/volume/csi", "k8s.io/kubernetes/pkg/controller/volume",
			},
			except: []string{
				// kube-apiserver's: how it calls kubelets, and what its volume admission names of theirs.
				"k8s.io/kubernetes/pkg/kubelet/client", "k8s.io/kubernetes/pkg/kubelet/events", "k8s.io/kubernetes/pkg/kubelet/server/metrics",
				"k8s.io/kubernetes/pkg/kubelet/util/format",
				// A plugin of the scheduler for CPUs reads the kubelet's settings.
				"k8s.io/kubernetes/pkg/kubelet/apis/config", "k8s.io/kubernetes/pkg/kubelet/cm/topologymanager/bitmask",
				// kube-apiserver's OpenAPI describes them.
				"k8s.io/kubectl/pkg/config",
				// The garbage collector registers the settings of all controllers.
				"k8s.io/kubernetes/pkg/controller/volume/attachdetach/config", "k8s.io/kubernetes/pkg/controller/volume/ephemeral/config",
				"k8s.io/kubernetes/pkg/controller/volume/persistentvolume/config",
			},
		},
		{
			program: "cmd/kubectl-berth", most: 1266,
			without: []string{"google.golang.org/grpc", "k8s.io/apiserver/pkg/admission/plugin/webhook/generic", "k8s.io/apiserver/pkg/server"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.program, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+tt.program).Output()
			if err != nil {
				t.Fatal(err)
			}
			packages := strings.Fields(string(out))
			t.Logf("%d packages", len(packages))
			if len(packages) > tt.most || len(packages) < tt.most/2 {
				t.Errorf("%d packages, want at most %d", len(packages), tt.most)
			}
			in := func(folders []string, pkg string) bool {
				return slices.ContainsFunc(folders, func(folder string) bool { return below(pkg, folder) })
			}
			for _, pkg := range packages {
				if in(tt.without, pkg) && !in(tt.except, pkg) {
					t.Errorf("it contains %s: see which package needs it by go mod why, or go list -deps", pkg)
				}
			}
		})
	}
}
