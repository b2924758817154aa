// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
)

// runningFaults are of what runs: the parts, nodes and pods.
var runningFaults = []fault{
	{
		name: "no scheduler is ready",
		breaks: func(_ *testing.T, f *Facts) {
			f.deployment(Scheduler).Status.ReadyReplicas = 0
			waiting(f.pod("scheduler-1"), "ImagePullBackOff", "not found")
			waiting(f.pod("scheduler-2"), "ImagePullBackOff", "not found")
		},
		id: idSchedulerPods, status: Failed, message: "none of the 2 pods of Deployment berth-scheduler is ready: scheduler-1 waits: ImagePullBackOff: not found",
		run: "kubectl -n berth-system describe pods -l app.kubernetes.io/name=berth-scheduler",
	},
	{
		name:   "one scheduler is not ready",
		breaks: func(_ *testing.T, f *Facts) { f.deployment(Scheduler).Status.ReadyReplicas = 1 },
		id:     idSchedulerPods, status: Warning, message: "1 of the 2 pods",
	},
	{
		name:   "the controller is scaled to nothing",
		breaks: func(_ *testing.T, f *Facts) { f.deployment(Controller).Spec.Replicas = ptr.To[int32](0) },
		id:     idControllerPods, status: Failed, message: "scaled to 0", run: "kubectl -n berth-system scale deployment/berth-controller --replicas=1",
	},
	{
		name: "there is no controller",
		breaks: func(_ *testing.T, f *Facts) {
			f.Deployments = slices.DeleteFunc(f.Deployments, func(d appsv1.Deployment) bool { return d.Name == Controller })
		},
		id: idControllerPods, status: Failed, message: "there is no Deployment with the label app.kubernetes.io/name=berth-controller",
	},
	{
		name: "a ConfigMap is gone",
		breaks: func(_ *testing.T, f *Facts) {
			f.deployment(Scheduler).Spec.Template.Spec.Volumes[0] = configVolume("gone")
		},
		id: idSchedulerPods, status: Failed, message: "pods of berth-scheduler mount the ConfigMap gone, which does not exist",
	},
	{
		name:   "a scheduler that fails a check",
		breaks: func(_ *testing.T, f *Facts) { f.Ready["scheduler-1"] = "[-]berth-policies failed: reason withheld" },
		id:     idSchedulerReady, status: Failed, message: "[-]berth-policies failed", run: "kubectl get --raw '/api/v1/namespaces/berth-system/pods/https:scheduler-1:10259/proxy/readyz?verbose'",
	},
	{
		name:   "the scheduler's Lease ran out",
		breaks: func(_ *testing.T, f *Facts) { *f.lease(Scheduler) = lease(Scheduler, "scheduler-1", time.Minute) },
		id:     idSchedulerLease, status: Failed, message: "ran out: scheduler-1 renewed it 60s ago",
	},
	{
		name:   "the scheduler's Lease is free",
		breaks: func(_ *testing.T, f *Facts) { *f.lease(Scheduler) = lease(Scheduler, "", time.Minute) },
		id:     idSchedulerLease, status: Failed, message: "is free since 60s", run: "kubectl -n berth-system logs -l app.kubernetes.io/name=berth-scheduler --tail=20",
	},
	{
		name: "no controller ever led",
		breaks: func(_ *testing.T, f *Facts) {
			f.Leases = slices.DeleteFunc(f.Leases, func(l coordinationv1.Lease) bool { return l.Name == Controller })
		},
		id: idControllerLease, status: Failed, message: "nobody has ever held the Lease berth-controller",
	},
	{
		name:   "a leader that is not the one whose Bindings are taken",
		breaks: func(_ *testing.T, f *Facts) { f.TermHolder = "scheduler-0" },
		id:     idLeaderTerm, status: Failed, message: "scheduler-1 leads, and the LeaderTerm names scheduler-0",
	},
	{
		name:   "a scheduler without leader election",
		breaks: func(_ *testing.T, f *Facts) { f.Unelected = true },
		id:     idSchedulerLease, status: Unknown, message: "no leader election",
	},
	{
		name:   "a configuration that the scheduler does not take",
		breaks: func(_ *testing.T, f *Facts) { f.ConfigProblem = `unknown field "headrom"` },
		id:     idSchedulerConfig, status: Failed, message: `(ConfigMap berth-scheduler-config-1): unknown field "headrom"`, run: "get configmap berth-scheduler-config-1",
	},
	{
		name:   "a configuration by which others bind",
		breaks: func(_ *testing.T, f *Facts) { f.ConfigFlaws = []string{"Berth is not the first under bind"} },
		id:     idSchedulerConfig, status: Failed, message: "Berth is not the first under bind",
	},
	{
		name: "schedulers with different configurations",
		breaks: func(_ *testing.T, f *Facts) {
			f.pod("scheduler-2").Spec.Volumes[0] = configVolume("berth-scheduler-config-0")
		},
		id: idOneConfig, status: Warning, message: "berth-scheduler-config-0 and berth-scheduler-config-1",
	},
	{
		name: "a model that cannot be looked up",
		breaks: func(_ *testing.T, f *Facts) {
			f.Profiles = []berthv1alpha1.ModelProfile{{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Status: berthv1alpha1.ModelProfileStatus{
				Conditions: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Message: "401"}},
			}}}
		},
		id: idProfiles, status: Warning, message: "of m: 401", run: "kubectl get modelprofiles",
	},
	{
		name: "a node that no agent reports",
		breaks: func(_ *testing.T, f *Facts) {
			f.GPUNodes = f.GPUNodes[:1]
			f.Pods = slices.DeleteFunc(f.Pods, func(p corev1.Pod) bool { return p.Name == "agent-gpu-b" })
		},
		id: idReported, status: Failed, message: "1 node has to have an agent, and no report of one: no agent runs on gpu-b", run: "get pods -o wide -l app.kubernetes.io/name=berth-agent",
	},
	{
		name: "an agent that cannot start",
		breaks: func(_ *testing.T, f *Facts) {
			f.GPUNodes = f.GPUNodes[:1]
			waiting(f.pod("agent-gpu-b"), "CreateContainerError", "no runtime for nvidia")
		},
		id: idReported, status: Failed, message: "agent-gpu-b waits: CreateContainerError: no runtime for nvidia", run: "kubectl -n berth-system describe pod agent-gpu-b",
	},
	{
		name:   "an agent that is silent",
		breaks: func(_ *testing.T, f *Facts) { *f.lease("gpu-b") = lease("gpu-b", "gpu-b", 3*time.Minute) },
		id:     idFresh, status: Failed, message: "no agent of 1 node was heard of for staleAfter (1m0s), so that they get no new pods; that of gpu-b was last heard of 3m",
		run: "kubectl -n berth-system logs agent-gpu-b --tail=20",
	},
	{
		name: "agents that are not ready",
		breaks: func(_ *testing.T, f *Facts) {
			f.DaemonSets[0].Status.NumberReady = 1
			waiting(f.pod("agent-gpu-b"), "CrashLoopBackOff", "")
		},
		id: idAgentPods, status: Failed, message: "1 of the 2 pods of DaemonSet berth-agent are ready: agent-gpu-b waits: CrashLoopBackOff",
	},
	{
		name:   "agents for no node",
		breaks: func(_ *testing.T, f *Facts) { f.DaemonSets[0].Status = appsv1.DaemonSetStatus{} },
		id:     idAgentPods, status: Failed, message: "meant for no node",
	},
	{
		name: "a report that nobody can read",
		breaks: func(_ *testing.T, f *Facts) {
			f.GPUNodes, f.Unreadable = f.GPUNodes[:1], map[string]string{"gpu-b": "quantity"}
		},
		id: idReadable, status: Failed, message: "that of gpu-b: quantity", run: "kubectl delete gpunode gpu-b",
	},
	{
		name:   "a report of a node that is gone",
		breaks: func(_ *testing.T, f *Facts) { f.GPUNodes = append(f.GPUNodes, *bt.MakeGPUsOf("gone", 1, "80Gi").Obj()) },
		id:     idOrphans, status: Warning, message: "1 GPUNode left over", run: "kubectl delete gpunode gone",
	},
	{
		name: "a GPU in two reports",
		breaks: func(_ *testing.T, f *Facts) {
			f.GPUNodes[1].Status.Devices[0].UUID = f.GPUNodes[0].Status.Devices[0].UUID
		},
		id: idContested, status: Failed, message: "reported by several nodes (gpu-a and gpu-b)", run: "kubectl get gpunodes gpu-a gpu-b -o yaml",
	},
	{
		name: "a GPU on which too much is booked",
		breaks: func(_ *testing.T, f *Facts) {
			for i, name := range []string{"first", "second"} {
				at := now.Add(time.Duration(i-2) * time.Hour)
				f.Pods = append(f.Pods, *bt.MakePod(name).Memory("60Gi").Bound("gpu-a", at, bt.GPUOf("gpu-a", 0)+"=60Gi").Started(at).Ready(at).Obj())
			}
		},
		id: idOverbooked, status: Failed, message: "GPU 0 of gpu-a (120Gi booked, of 80Gi); the pods that came last are default/second", run: "kubectl -n default delete pod second",
	},
	{
		name: "an unhealthy GPU",
		breaks: func(_ *testing.T, f *Facts) {
			f.GPUNodes[0].Status.Devices[1].Health, f.GPUNodes[0].Status.Devices[1].Reason = berthv1alpha1.DeviceUnhealthy, "Xid79"
		},
		id: idHealth, status: Warning, message: "GPU 1 of gpu-a (Xid79)",
	},
	{
		name:   "an agent that does not reach the kubelet",
		breaks: func(_ *testing.T, f *Facts) { f.GPUNodes[0].Status.AssignmentsUnknown = "no such file" },
		id:     idAssignments, status: Warning, message: "of gpu-a: no such file",
	},
	{
		name:   "the RuntimeClass does not exist",
		breaks: func(_ *testing.T, f *Facts) { f.Classes = nil },
		id:     idRuntimeClass, status: Failed, message: "RuntimeClass nvidia, which does not exist", run: "kind: RuntimeClass, metadata: {name: nvidia}, handler: nvidia}",
	},
	{
		name: "a runtime that takes no GPUs",
		breaks: func(_ *testing.T, f *Facts) {
			f.GPUNodes[1].Status.HandOff.Runtimes[0].Accepts, f.GPUNodes[1].Status.HandOff.Runtimes[0].Message = nil, "accept-nvidia-visible-devices-envvar-when-unprivileged is false"
		},
		id: idHandOff, status: Failed, message: "of gpu-b: accept-nvidia-visible-devices", run: "kubectl get gpunode gpu-b",
	},
	{
		name: "a node without the runtime handler",
		breaks: func(_ *testing.T, f *Facts) {
			f.Nodes[0].Status.RuntimeHandlers = []corev1.NodeRuntimeHandler{{Name: "runc"}}
		},
		id: idHandOff, status: Failed, message: "of gpu-a: node(s) didn't have the runtime handler",
	},
	{
		name: "a node that is half handed over",
		breaks: func(_ *testing.T, f *Facts) {
			bt.AdvertiseGPUs(&f.Nodes[0], 2)
			pod := bt.MakePod("train").Scheduler("default-scheduler").Node("gpu-a").Obj()
			pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{berthv1alpha1.ResourceNVIDIAGPU: resource.MustParse("2")}
			pod.Status.Phase, pod.CreationTimestamp = corev1.PodRunning, metav1.NewTime(now.Add(-time.Hour))
			f.Pods = append(f.Pods, *pod)
		},
		id: idOneOwner, status: Warning, message: "gpu-a advertises 2 GPUs, which are used by default/train", run: "kubectl label node gpu-a nvidia.com/gpu.deploy.device-plugin=false --overwrite",
	},
	{
		name: "a node with two masters",
		breaks: func(_ *testing.T, f *Facts) {
			bt.AdvertiseGPUs(&f.Nodes[0], 2)
			at := now.Add(-time.Hour)
			f.Pods = append(f.Pods, *bt.MakePod("low").Memory("10Gi").Bound("gpu-a", at, bt.GPUOf("gpu-a", 0)+"=10Gi").Started(at).Ready(at).Obj())
		},
		id: idOneOwner, status: Failed, message: "GPUs have two masters",
	},
	{
		name: "a node with GPUs that is not labelled",
		breaks: func(_ *testing.T, f *Facts) {
			node := bt.MakeNode("other")
			node.Labels["nvidia.com/gpu.count"] = "8"
			f.Nodes = append(f.Nodes, *node)
		},
		id: idLabelled, status: Warning, message: "1 node has NVIDIA GPUs", run: "kubectl label node other berth.dev/gpus=true",
	},
	{
		name:   "a node that is cordoned",
		breaks: func(_ *testing.T, f *Facts) { f.Nodes[0].Spec.Unschedulable = true },
		id:     idNodeReady, status: Warning, message: "1 node with GPUs is cordoned", run: "kubectl uncordon gpu-a",
	},
	{
		name: "a node whose driver is replaced",
		breaks: func(_ *testing.T, f *Facts) {
			f.Nodes[0].Labels[berthv1alpha1.LabelDriverUpgradeState] = "drain-required"
		},
		id: idDriver, status: Warning, message: "is being replaced",
	},
	{
		name: "pods that nobody serves",
		breaks: func(_ *testing.T, f *Facts) {
			*f.lease(Scheduler) = lease(Scheduler, "", time.Minute)
			f.Pods = append(f.Pods, *bt.MakePod("waits").Memory("10Gi").Obj())
		},
		id: idServed, status: Failed, message: `1 pod waits for the scheduler "berth", and no process leads`, also: []string{idSchedulerLease},
	},
	{
		name: "pods that were never tried",
		breaks: func(_ *testing.T, f *Facts) {
			pod := bt.MakePod("waits").Memory("10Gi").Obj()
			pod.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
			f.Pods = append(f.Pods, *pod)
		},
		id: idTried, status: Failed, message: "has not tried 1 pod",
	},
	{
		name: "a pod that somebody else bound",
		breaks: func(_ *testing.T, f *Facts) {
			f.Pods = append(f.Pods, *bt.MakePod("forced").Memory("10Gi").Node("gpu-a").Obj())
		},
		id: idAllocation, status: Failed, message: "1 pod asks for GPU memory and is on a node without any", run: "kubectl -n default delete pod forced",
	},
}
