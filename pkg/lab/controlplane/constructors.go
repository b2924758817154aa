// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/dynamic"
	schedulinginformers "k8s.io/client-go/informers/scheduling/v1beta1"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/disruption"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/resourcequota"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/controller/statefulset"
	"k8s.io/kubernetes/pkg/features"
	quotainstall "k8s.io/kubernetes/pkg/quota/v1/install"
)

const (
	// workers is how many objects a controller works on at once.
	workers = 10
	// relist is how often namespaces and quotas are looked at again, as in kube-controller-manager.
	relist = 5 * time.Minute
)

// withWorkers returns the loop of a controller that wants to know how many workers it has.
func withWorkers(run func(context.Context, int)) loop {
	return func(ctx context.Context) { run(ctx, workers) }
}

// both returns the loop of a controller that consists of two.
func both(a, b loop) loop {
	return func(ctx context.Context) {
		var running sync.WaitGroup
		running.Go(func() { a(ctx) })
		running.Go(func() { b(ctx) })
		running.Wait()
	}
}

func newNamespaceController(ctx context.Context, s *shared) (loop, error) {
	c := namespace.NewNamespaceController(ctx, s.client, s.metadata, s.client.Discovery().ServerPreferredNamespacedResources,
		s.informers.Core().V1().Namespaces(), relist, corev1.FinalizerKubernetes)
	return withWorkers(c.Run), nil
}

func newServiceAccountController(ctx context.Context, s *shared) (loop, error) {
	c, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), s.informers.Core().V1().ServiceAccounts(),
		s.informers.Core().V1().Namespaces(), s.client, serviceaccount.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func newGarbageCollector(ctx context.Context, s *shared) (loop, error) {
	builder := garbagecollector.NewDependencyGraphBuilder(ctx, s.metadata, s.mapper, garbagecollector.DefaultIgnoredResources(), s.any, s.started)
	c, err := garbagecollector.NewComposedGarbageCollector(ctx, s.client, s.metadata, s.mapper, builder)
	if err != nil {
		return nil, err
	}
	return both(
		func(ctx context.Context) { c.Run(ctx, workers, discoveryPeriod) },
		func(ctx context.Context) { c.Sync(ctx, s.client.Discovery(), discoveryPeriod) },
	), nil
}

func newDeploymentController(ctx context.Context, s *shared) (loop, error) {
	apps := s.informers.Apps().V1()
	c, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), s.informers.Core().V1().Pods(), s.client)
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func newReplicaSetController(ctx context.Context, s *shared) (loop, error) {
	c := replicaset.NewReplicaSetController(ctx, s.informers.Apps().V1().ReplicaSets(), s.informers.Core().V1().Pods(), s.client, replicaset.BurstReplicas)
	return withWorkers(c.Run), nil
}

func newStatefulSetController(ctx context.Context, s *shared) (loop, error) {
	core, apps := s.informers.Core().V1(), s.informers.Apps().V1()
	c := statefulset.NewStatefulSetController(ctx, core.Pods(), apps.StatefulSets(), core.PersistentVolumeClaims(), apps.ControllerRevisions(), s.client)
	return withWorkers(c.Run), nil
}

func newDaemonSetController(ctx context.Context, s *shared) (loop, error) {
	core, apps := s.informers.Core().V1(), s.informers.Apps().V1()
	c, err := daemon.NewDaemonSetsController(ctx, apps.DaemonSets(), apps.ControllerRevisions(), core.Pods(), core.Nodes(), s.client,
		flowcontrol.NewBackOff(time.Second, 15*time.Minute))
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func newJobController(ctx context.Context, s *shared) (loop, error) {
	var workloads schedulinginformers.WorkloadInformer
	var groups schedulinginformers.PodGroupInformer
	if utilfeature.DefaultFeatureGate.Enabled(features.WorkloadWithJob) {
		workloads, groups = s.informers.Scheduling().V1beta1().Workloads(), s.informers.Scheduling().V1beta1().PodGroups()
	}
	c, err := job.NewController(ctx, s.client, s.informers.Core().V1().Pods(), s.informers.Batch().V1().Jobs(), workloads, groups)
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func newDisruptionController(ctx context.Context, s *shared) (loop, error) {
	scales, err := scale.NewForConfig(s.config, s.mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(s.client.Discovery()))
	if err != nil {
		return nil, err
	}
	core, apps := s.informers.Core().V1(), s.informers.Apps().V1()
	c := disruption.NewDisruptionController(ctx, core.Pods(), s.informers.Policy().V1().PodDisruptionBudgets(), core.ReplicationControllers(),
		apps.ReplicaSets(), apps.Deployments(), apps.StatefulSets(), s.client, s.mapper, scales, s.client.Discovery())
	return withWorkers(c.Run), nil
}

func newResourceQuotaController(ctx context.Context, s *shared) (loop, error) {
	quotas, err := quotainstall.NewQuotaConfigurationForControllers(generic.ListerFuncForResourceFunc(s.informers.ForResource), s.informers)
	if err != nil {
		return nil, err
	}
	discover := s.client.Discovery().ServerPreferredNamespacedResources
	c, err := resourcequota.NewController(ctx, &resourcequota.ControllerOptions{
		QuotaClient:               s.client.CoreV1(),
		ResourceQuotaInformer:     s.informers.Core().V1().ResourceQuotas(),
		ResyncPeriod:              controller.StaticResyncPeriodFunc(relist),
		InformerFactory:           s.any,
		ReplenishmentResyncPeriod: controller.StaticResyncPeriodFunc(resyncPeriod),
		DiscoveryFunc:             discover,
		IgnoredResourcesFunc:      quotas.IgnoredResources,
		InformersStarted:          s.started,
		Registry:                  generic.NewRegistry(quotas.Evaluators()),
		UpdateFilter:              quotainstall.DefaultUpdateFilter(),
	})
	if err != nil {
		return nil, err
	}
	return both(withWorkers(c.Run), func(ctx context.Context) { c.Sync(ctx, discover, discoveryPeriod) }), nil
}

func newClusterRoleAggregator(_ context.Context, s *shared) (loop, error) {
	c := clusterroleaggregation.NewClusterRoleAggregation(s.informers.Rbac().V1().ClusterRoles(), s.client.RbacV1())
	return withWorkers(c.Run), nil
}
