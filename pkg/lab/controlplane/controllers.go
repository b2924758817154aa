// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	basecompatibility "k8s.io/component-base/compatibility"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"

	"github.com/berth-dev/berth/internal/serverversion"
)

// constructors make the controllers that a control plane can run: those that workloads on a lab need. The app of
// kube-controller-manager, which has all of them, links several hundred packages more: the kubelet's, cadvisor, volume
// plugins. The node lifecycle controller is not among them: the nodes are simulated, and must not become unreachable
// because the machine is busy.
var constructors = map[string]func(context.Context, *shared) (loop, error){
	names.NamespaceController:              newNamespaceController,
	names.ServiceAccountController:         newServiceAccountController,
	names.GarbageCollectorController:       newGarbageCollector,
	names.PodGarbageCollectorController:    newOrphanCollector,
	names.DeploymentController:             newDeploymentController,
	names.ReplicaSetController:             newReplicaSetController,
	names.StatefulSetController:            newStatefulSetController,
	names.DaemonSetController:              newDaemonSetController,
	names.JobController:                    newJobController,
	names.DisruptionController:             newDisruptionController,
	names.ResourceQuotaController:          newResourceQuotaController,
	names.ClusterRoleAggregationController: newClusterRoleAggregator,
}

// loop runs a controller until its context ends.
type loop func(context.Context)

// DefaultControllers are the names of all controllers that a control plane can run.
func DefaultControllers() []string { return slices.Sorted(maps.Keys(constructors)) }

// startControllers runs controllers of the kube-controller-manager, as the administrator.
func startControllers(cp *ControlPlane, controllers []string) (_ *part, err error) {
	if err := emulateOlderAPIServer(cp); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	s, err := newShared(ctx, cp.config)
	if err != nil {
		return nil, err
	}
	var loops []loop
	for _, name := range controllers {
		construct, ok := constructors[name]
		if !ok {
			return nil, fmt.Errorf("no controller is named %q: there are %s", name, strings.Join(DefaultControllers(), ", "))
		}
		l, err := construct(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		loops = append(loops, l)
	}
	return run("kube-controller-manager", func(ended context.Context) error {
		defer cancel()
		defer context.AfterFunc(ended, cancel)()
		s.start(ctx)
		defer s.informers.Shutdown()
		var running sync.WaitGroup
		for _, l := range loops {
			running.Go(func() { l(ctx) })
		}
		running.Wait()
		return nil
	}), nil
}

// emulateOlderAPIServer lets the controllers emulate the version of an apiserver that is a program of its own. With the
// one that is linked in they share what is emulated.
func emulateOlderAPIServer(cp *ControlPlane) error {
	if !cp.external {
		return nil
	}
	info, err := cp.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	server, err := serverversion.Parse(info)
	if err != nil {
		return err
	}
	version := compatibility.DefaultBuildEffectiveVersion()
	emulated, err := serverversion.ToEmulate(version.BinaryVersion(), server)
	if err != nil || emulated == "" {
		return err
	}
	registry := compatibility.DefaultComponentGlobalsRegistry
	registry.ComponentGlobalsOrRegister(basecompatibility.DefaultKubeComponent, version, utilfeature.DefaultMutableFeatureGate)
	// The registry takes versions by its flags alone.
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	registry.AddFlags(fs)
	if err := fs.Parse([]string{"--emulated-version=" + emulated}); err != nil {
		return err
	}
	return registry.Set()
}
