// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

// optionFaults are of what is off by default.
var optionFaults = []fault{
	{
		name:   "a quota of what is no resource",
		breaks: func(_ *testing.T, f *Facts) { f.Quotas = append(f.Quotas, quota("team-a", quotaKey)) },
		id:     idQuota, status: Failed, message: "1 ResourceQuota counts requests.berth.dev/gpu-memory, and the argument gpuMemoryResource is off",
	},
	{
		name:   "quotas that cannot be read",
		breaks: func(_ *testing.T, f *Facts) { f.Unread[Quotas] = "you may not" },
		id:     idQuota, status: Unknown, message: "ResourceQuotas could not be read: you may not",
	},
	{
		name: "GPU memory is a resource, and no policy that goes with it is there",
		breaks: func(_ *testing.T, f *Facts) {
			resourceOf(f)
			for _, o := range Needed("v1") {
				if isOfResource(o.GetName()) {
					delete(f.Installed, KeyOf(o))
				}
			}
		},
		id: idResource, status: Failed, message: "are not installed: berth-resource, berth-resource-jobs, berth-resource-node and berth-resource-quota",
	},
	{
		name: "GPU memory is a resource of a Helm release, and no policy that goes with it is there",
		breaks: func(_ *testing.T, f *Facts) {
			f.Args.GPUMemoryResource = true
			for i := range f.Deployments {
				f.Deployments[i].Annotations = map[string]string{"meta.helm.sh/release-name": "mine"}
			}
		},
		id: idResource, status: Failed, message: "are not installed", also: []string{idAdvertised},
		run: "helm upgrade mine charts/berth --namespace berth-system --reuse-values --set gpuMemoryResource=true",
	},
	{
		name: "one policy of it is gone",
		breaks: func(_ *testing.T, f *Facts) {
			resourceOf(f)
			delete(f.Installed, "MutatingAdmissionPolicy berth-resource-node")
		},
		id: idPolicyInstalled, status: Failed, message: "not enforced: berth-resource-node: its policy does not exist",
	},
	{
		name: "a policy of it does not refuse",
		breaks: func(t *testing.T, f *Facts) {
			resourceOf(f)
			set(t, f.object(t, "ValidatingAdmissionPolicyBinding berth-resource-quota"), []any{"Warn"}, "spec", "validationActions")
		},
		id: idPolicyEnforced, status: Failed, message: "berth-resource-quota: its binding does not deny",
	},
	{
		name: "the controller has not the flag",
		breaks: func(_ *testing.T, f *Facts) {
			resourceOf(f)
			f.deployment(Controller).Spec.Template.Spec.Containers[0].Args = []string{"--gpu-memory-resource=false"}
		},
		id: idResource, status: Failed, message: "the controller runs without --gpu-memory-resource: no node advertises berth.dev/gpu-memory",
	},
	{
		name: "all but the argument is on",
		breaks: func(_ *testing.T, f *Facts) {
			resourceOf(f)
			f.Args.GPUMemoryResource = false
		},
		id: idResource, status: Warning, message: "gpuMemoryResource is off, and the controller runs with --gpu-memory-resource, and policies that go with it are installed: berth-resource,",
	},
	{
		name: "no mutating policies are served, which the resource needs",
		breaks: func(_ *testing.T, f *Facts) {
			resourceOf(f)
			f.Mutating = ""
		},
		id: idResource, status: Failed, message: "serves no mutating admission policies", also: []string{idPolicyInstalled},
	},
	{
		name: "a node that advertises nothing",
		breaks: func(_ *testing.T, f *Facts) {
			resourceOf(f)
			f.Nodes[0].Status.Capacity, f.Nodes[0].Status.Allocatable = nil, nil
		},
		id: idAdvertised, status: Failed, message: "1 node has GPUs and advertises no berth.dev/gpu-memory", run: "kubectl -n berth-system logs -l app.kubernetes.io/name=berth-controller --tail=20",
	},
	{
		name: "a node that advertises less than it has",
		breaks: func(_ *testing.T, f *Facts) {
			resourceOf(f)
			f.Nodes[1].Status.Allocatable[berthv1alpha1.ResourceGPUMemory] = resource.MustParse("79Gi")
		},
		id: idAdvertised, status: Failed, message: "gpu-b advertises 79Gi, of 159.5Gi",
	},
	{
		name: "a node that advertises more than it has",
		breaks: func(_ *testing.T, f *Facts) {
			resourceOf(f)
			f.GPUNodes[1].Status.Devices = f.GPUNodes[1].Status.Devices[:1]
		},
		id: idAdvertised, status: Warning, message: "gpu-b advertises 159.5Gi, of 79.8Gi",
	},
	{
		name: "a GPU that is cordoned",
		breaks: func(_ *testing.T, f *Facts) {
			f.Nodes[0].Annotations = map[string]string{berthv1alpha1.AnnotationCordonedGPUs: bt.GPUOf("gpu-a", 1)}
		},
		id: idCordoned, status: Warning, message: "1 GPU is cordoned, so that no new pod gets them: GPU 1 of gpu-a", run: "kubectl berth top gpu-a -o wide",
	},
	{
		name: "a GPU that is cordoned, and is not there",
		breaks: func(_ *testing.T, f *Facts) {
			f.Nodes[1].Annotations = map[string]string{berthv1alpha1.AnnotationCordonedGPUs: "GPU-old"}
		},
		id: idCordoned, status: Warning, message: "names what the node's report does not have, and keeps no pod off: GPU-old of gpu-b", run: "kubectl berth uncordon gpu-b --gpu GPU-old",
	},
	{
		name: "nobody does what enforcement says",
		breaks: func(t *testing.T, f *Facts) {
			limitBy(t, f, berthv1alpha1.EnforcementGPUSharing, "'None'")
			f.Nodes[0].Status.Conditions, f.Nodes[1].Status.Conditions = nil, nil
		},
		id: idLimits, status: Warning, message: "enforcement is NVIDIAGPUSharing, and no node says that it holds containers to what is booked",
	},
	{
		name: "a node where containers with a limit do not start",
		breaks: func(t *testing.T, f *Facts) {
			limitBy(t, f, berthv1alpha1.EnforcementToolkit, "'NVIDIAToolkit'")
			*f.GPUNodes[1].Status.HandOff.Runtimes[0].MemoryLimits = berthv1alpha1.MemoryLimits{State: berthv1alpha1.MemoryLimitFails, Message: "cgroups of version 1"}
		},
		id: idLimits, status: Warning, message: "1 node gets no pods that are told a limit; of gpu-b: ", run: "kubectl get gpunode gpu-b",
	},
	{
		name: "the scheduler may not evict, as it is told to",
		breaks: func(t *testing.T, f *Facts) {
			f.Args.OnDeviceLost = berthv1alpha1.ActionEvict
			dropResource(t, f.object(t, "ClusterRole berth-scheduler"), "pods/eviction")
		},
		id: idRoles, status: Failed, message: "ClusterRole berth-scheduler lacks create pods/eviction", run: "kubectl apply -k berth",
	},
	{
		name: "a strategy that is shown a part of the nodes",
		breaks: func(_ *testing.T, f *Facts) {
			f.Args.Strategy = alloc.Fragmentation
			manyNodes(f, 101)
		},
		id: idSampled, status: Warning, message: "of 101 the scheduler stops looking once some fit: percentageOfNodesToScore is 0, which leaves it to the number of nodes", run: "get configmap",
	},
	{
		name: "a strategy that is shown most of the nodes",
		breaks: func(_ *testing.T, f *Facts) {
			f.Args.Strategy, f.NodesToScore = alloc.Fragmentation, 99
			manyNodes(f, 101)
		},
		id: idSampled, status: Warning, message: "percentageOfNodesToScore is 99, which is too little",
	},
}

// TestOptionsThatAreRight: what is switched on everywhere is as right as what is off.
func TestOptionsThatAreRight(t *testing.T) {
	for name, change := range map[string]func(*Facts){
		"GPU memory is a resource, and a quota counts it": func(f *Facts) {
			resourceOf(f)
			f.Quotas = append(f.Quotas, quota("team-a", quotaKey))
		},
		"more is asked for than GPUs are left": func(f *Facts) {
			resourceOf(f)
			f.GPUNodes[0].Status.Devices = f.GPUNodes[0].Status.Devices[:1]
			pod := bt.MakePod("p").Memory("159744Mi").Bound("gpu-a", now, bt.GPUOf("gpu-a", 0)+"=1Gi").Started(now).Ready(now).Obj()
			pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: resource.MustParse("163328Mi")}
			f.Pods = append(f.Pods, *pod)
		},
		"a quota of something else": func(f *Facts) { f.Quotas = append(f.Quotas, quota("team-a", corev1.ResourcePods)) },
		"a strategy that is shown all of many nodes": func(f *Facts) {
			f.Args.Strategy, f.NodesToScore = alloc.Fragmentation, 100
			manyNodes(f, 101)
		},
		"a strategy that is shown all of few nodes": func(f *Facts) {
			f.Args.Strategy = alloc.Fragmentation
			manyNodes(f, 100)
		},
		"another strategy, of many nodes": func(f *Facts) { manyNodes(f, 101) },
	} {
		f := healthy()
		change(f)
		for _, g := range Judge(f).Groups {
			for _, c := range g.Checks {
				if c.Status != OK {
					t.Errorf("%s: %s %s: %s", name, c.Status, c.ID, c.Message)
				}
			}
		}
	}
}

// resourceOf makes GPU memory a resource of a cluster, in all that has to do with it.
func resourceOf(f *Facts) {
	f.Args.GPUMemoryResource = true
	for _, o := range Needed("v1") {
		if isOfResource(o.GetName()) {
			f.Installed[KeyOf(o)] = Found{Object: o.DeepCopy()}
		}
	}
	for i := range f.Deployments {
		if f.Deployments[i].Name == Controller {
			f.Deployments[i].Spec.Template.Spec.Containers = []corev1.Container{{Args: []string{"--config=c", "--gpu-memory-resource"}}}
		}
	}
	for i := range f.Nodes { // two GPUs of 80Gi, less the headroom of 256Mi of each
		list := corev1.ResourceList{berthv1alpha1.ResourceGPUMemory: resource.MustParse("163328Mi")}
		f.Nodes[i].Status.Capacity, f.Nodes[i].Status.Allocatable = list, list.DeepCopy()
	}
}

func quota(namespace string, counts corev1.ResourceName) corev1.ResourceQuota {
	return corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "gpus"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{counts: resource.MustParse("640Gi")}},
	}
}

// manyNodes adds nodes without GPUs, up to so many.
func manyNodes(f *Facts, n int) {
	for i := len(f.Nodes); i < n; i++ {
		f.Nodes = append(f.Nodes, *bt.MakeNode(fmt.Sprintf("cpu-%d", i)))
	}
}

// dropResource takes the rules of a resource out of a role.
func dropResource(t *testing.T, role map[string]any, resource string) {
	t.Helper()
	var rules []any
	for _, rule := range role["rules"].([]any) {
		if fmt.Sprint(rule.(map[string]any)["resources"]) != "["+resource+"]" {
			rules = append(rules, rule)
		}
	}
	if len(rules) == len(role["rules"].([]any)) {
		t.Fatalf("no rule is of %s", resource)
	}
	role["rules"] = rules
}
