// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshotfile

import (
	corev1 "k8s.io/api/core/v1"
)

// keptPod returns what a scheduler reads of a pod, and what people are shown of it. A field that is not named here is not in a
// file, so one that a later version of Kubernetes adds is not either.
func keptPod(p *corev1.Pod) *corev1.Pod {
	s, status := &p.Spec, &p.Status
	return &corev1.Pod{
		TypeMeta:   p.TypeMeta,
		ObjectMeta: keptMeta(&p.ObjectMeta),
		Spec: corev1.PodSpec{
			NodeName: s.NodeName, SchedulerName: s.SchedulerName, SchedulingGates: s.SchedulingGates, SchedulingGroup: s.SchedulingGroup,
			NodeSelector: s.NodeSelector, Affinity: s.Affinity, Tolerations: s.Tolerations, TopologySpreadConstraints: s.TopologySpreadConstraints,
			Priority: s.Priority, PriorityClassName: s.PriorityClassName, PreemptionPolicy: s.PreemptionPolicy,
			TerminationGracePeriodSeconds: s.TerminationGracePeriodSeconds, RestartPolicy: s.RestartPolicy,
			RuntimeClassName: s.RuntimeClassName, Overhead: s.Overhead, Resources: s.Resources, ResourceClaims: s.ResourceClaims,
			OS: s.OS, HostNetwork: s.HostNetwork, HostUsers: s.HostUsers,
			InitContainers: keptContainers(s.InitContainers), Containers: keptContainers(s.Containers), Volumes: keptVolumes(s.Volumes),
		},
		Status: corev1.PodStatus{
			Phase: status.Phase, NominatedNodeName: status.NominatedNodeName, StartTime: status.StartTime, QOSClass: status.QOSClass,
			ResourceClaimStatuses: status.ResourceClaimStatuses, ExtendedResourceClaimStatus: status.ExtendedResourceClaimStatus,
			NodeAllocatableResourceClaimStatuses: status.NodeAllocatableResourceClaimStatuses,
			Resources:                            status.Resources, AllocatedResources: status.AllocatedResources,
			Conditions:            keptConditions(status.Conditions),
			InitContainerStatuses: keptContainerStatuses(status.InitContainerStatuses), ContainerStatuses: keptContainerStatuses(status.ContainerStatuses),
		},
	}
}

func keptContainers(containers []corev1.Container) (kept []corev1.Container) {
	for i := range containers {
		c := &containers[i]
		k := corev1.Container{
			Name: c.Name, Image: c.Image, Command: keptArgs(c.Command), Args: keptArgs(c.Args), Env: keptEnv(c.Env),
			Resources: c.Resources, RestartPolicy: c.RestartPolicy, RestartPolicyRules: c.RestartPolicyRules,
		}
		for _, p := range c.Ports {
			k.Ports = append(k.Ports, corev1.ContainerPort{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: p.Protocol, HostIP: p.HostIP})
		}
		if len(c.EnvFrom) > 0 { // any variable may then have any value, which is all that is to be known
			k.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{}}}
		}
		kept = append(kept, k)
	}
	return kept
}

// keptEnv returns variables with the values that a scheduler reads. Of those from elsewhere it reads only fields of the pod.
func keptEnv(env []corev1.EnvVar) (kept []corev1.EnvVar) {
	for _, v := range env {
		k := corev1.EnvVar{Name: v.Name, Value: keptValue(v.Name, v.Value)}
		switch from := v.ValueFrom; {
		case from == nil:
		case from.FieldRef != nil:
			k.ValueFrom = &corev1.EnvVarSource{FieldRef: from.FieldRef}
		default:
			k.ValueFrom = &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{}}
		}
		kept = append(kept, k)
	}
	return kept
}

// keptVolumes returns the volumes that are a matter of where a pod can be, or is to be, as far as they are.
func keptVolumes(volumes []corev1.Volume) (kept []corev1.Volume) {
	for i := range volumes {
		v, k := &volumes[i], corev1.VolumeSource{}
		switch {
		case v.PersistentVolumeClaim != nil:
			k.PersistentVolumeClaim = v.PersistentVolumeClaim
		case v.Ephemeral != nil: // its claim is named after it
			k.Ephemeral = &corev1.EphemeralVolumeSource{}
		case v.Image != nil:
			k.Image = &corev1.ImageVolumeSource{Reference: v.Image.Reference}
		case v.CSI != nil:
			k.CSI = &corev1.CSIVolumeSource{Driver: v.CSI.Driver}
		case v.GCEPersistentDisk != nil:
			k.GCEPersistentDisk = v.GCEPersistentDisk
		case v.AWSElasticBlockStore != nil:
			k.AWSElasticBlockStore = v.AWSElasticBlockStore
		case v.ISCSI != nil:
			k.ISCSI = &corev1.ISCSIVolumeSource{IQN: v.ISCSI.IQN, TargetPortal: v.ISCSI.TargetPortal, Lun: v.ISCSI.Lun, ReadOnly: v.ISCSI.ReadOnly}
		case v.RBD != nil:
			k.RBD = &corev1.RBDVolumeSource{CephMonitors: v.RBD.CephMonitors, RBDPool: v.RBD.RBDPool, RBDImage: v.RBD.RBDImage, ReadOnly: v.RBD.ReadOnly}
		default:
			continue
		}
		kept = append(kept, corev1.Volume{Name: v.Name, VolumeSource: k})
	}
	return kept
}

// keptConditions returns conditions, with the scheduler's message: those of others may tell anything.
func keptConditions(conditions []corev1.PodCondition) (kept []corev1.PodCondition) {
	for _, c := range conditions {
		k := corev1.PodCondition{Type: c.Type, Status: c.Status, LastTransitionTime: c.LastTransitionTime, LastProbeTime: c.LastProbeTime}
		if c.Type == corev1.PodScheduled {
			k.Reason, k.Message = c.Reason, c.Message
		}
		kept = append(kept, k)
	}
	return kept
}

func keptContainerStatuses(statuses []corev1.ContainerStatus) (kept []corev1.ContainerStatus) {
	for i := range statuses {
		s := &statuses[i]
		kept = append(kept, corev1.ContainerStatus{
			Name: s.Name, Ready: s.Ready, Started: s.Started, RestartCount: s.RestartCount,
			State: keptState(s.State), LastTerminationState: keptState(s.LastTerminationState),
			Resources: s.Resources, AllocatedResources: s.AllocatedResources,
		})
	}
	return kept
}

func keptState(s corev1.ContainerState) (kept corev1.ContainerState) {
	if s.Waiting != nil {
		kept.Waiting = &corev1.ContainerStateWaiting{Reason: s.Waiting.Reason}
	}
	kept.Running = s.Running
	if t := s.Terminated; t != nil {
		kept.Terminated = &corev1.ContainerStateTerminated{ExitCode: t.ExitCode, Signal: t.Signal, Reason: t.Reason, StartedAt: t.StartedAt, FinishedAt: t.FinishedAt}
	}
	return kept
}
