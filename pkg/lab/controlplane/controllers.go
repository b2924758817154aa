// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"

	"github.com/berth-dev/berth/internal/serverversion"
)

// DefaultControllers are the controllers that workloads on a lab need. The node lifecycle controller is not among
// them: the nodes are simulated, and must not become unreachable because the machine is busy.
func DefaultControllers() []string {
	return []string{
		names.NamespaceController,
		names.ServiceAccountController,
		names.GarbageCollectorController,
		names.PodGarbageCollectorController,
		names.DeploymentController,
		names.ReplicaSetController,
		names.StatefulSetController,
		names.DaemonSetController,
		names.JobController,
		names.DisruptionController,
		names.ResourceQuotaController,
		names.ClusterRoleAggregationController,
	}
}

// startControllers runs controllers of the kube-controller-manager, without leader election and without a port.
func startControllers(cp *ControlPlane, keys *pki, controllers []string) (*part, error) {
	kubeconfig := filepath.Join(cp.dir, "controllers.kubeconfig")
	if err := WriteKubeconfig(kubeconfig, cp.config); err != nil {
		return nil, err
	}
	s, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return nil, err
	}
	fs := pflag.NewFlagSet("kube-controller-manager", pflag.ContinueOnError)
	known, disabled, aliases := app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases()
	for _, set := range s.Flags(known, disabled, aliases).FlagSets {
		fs.AddFlagSet(set)
	}
	emulated, err := olderAPIServer(cp)
	if err != nil {
		return nil, err
	}
	args := []string{
		"--kubeconfig=" + kubeconfig,
		"--controllers=" + strings.Join(controllers, ","),
		"--leader-elect=false",
		"--secure-port=0",
		"--use-service-account-credentials=false",
		"--root-ca-file=" + keys.caFile,
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		"--concurrent-deployment-syncs=10",
		"--concurrent-replicaset-syncs=10",
	}
	if emulated != "" {
		args = append(args, "--emulated-version="+emulated)
	}
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if emulated != "" {
		// The apiserver that is linked in would have set this itself; it does not run.
		if err := s.ComponentGlobalsRegistry.Set(); err != nil {
			return nil, err
		}
	}
	c, err := s.Config(context.Background(), known, disabled, aliases)
	if err != nil {
		return nil, err
	}
	return run("kube-controller-manager", func(ctx context.Context) error { return app.Run(ctx, c.Complete()) }), nil
}

// olderAPIServer returns which version the controllers have to emulate before an apiserver that is a program of its
// own; "" before the one that is linked in, with which they share what is emulated.
func olderAPIServer(cp *ControlPlane) (string, error) {
	if !cp.external {
		return "", nil
	}
	info, err := cp.client.Discovery().ServerVersion()
	if err != nil {
		return "", err
	}
	server, err := serverversion.Parse(info)
	if err != nil {
		return "", err
	}
	return serverversion.ToEmulate(compatibility.DefaultBuildEffectiveVersion().BinaryVersion(), server)
}
