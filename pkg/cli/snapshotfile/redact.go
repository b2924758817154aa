// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshotfile

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/redact"
)

// redacted stands for what is not in the file.
const redacted = "REDACTED"

var (
	// keptVariables are those whose values a scheduler reads: how engines split a model.
	keptVariables = regexp.MustCompile(`^(OLLAMA_|LLAMA_ARG_|VLLM_|CUDA_|NVIDIA_VISIBLE_DEVICES$|BERTH_)`)
	// secret is what may be the name of a secret.
	secret = regexp.MustCompile(`(?i)(^|[^a-z])(api-?key|key|token|secret|password|passwd|credentials?|auth|authorization|bearer)([^a-z]|$)`)
	// references are all that a value may have that is kept although its variable is not known.
	references = regexp.MustCompile(`^(\$\([A-Za-z0-9_]+\))*$`)
)

// keptAnnotations begin the keys of annotations that are read: Berth's own, how GPUs are handed over, which pods are static
// ones, which container is the pod's, and what volume controllers write.
var keptAnnotations = []string{
	berthv1alpha1.GroupName + "/", berthv1alpha1.NRIAnnotationPrefix, "kubernetes.io/config.", "kubectl.kubernetes.io/default-container",
	"pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/",
	"storageclass.kubernetes.io/", "machineconfiguration.openshift.io/currentConfig",
}

// keptMeta returns what is read of the metadata of an object.
func keptMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	annotations := maps.Clone(m.Annotations)
	maps.DeleteFunc(annotations, func(key, _ string) bool {
		return !slices.ContainsFunc(keptAnnotations, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
	})
	if model, ok := annotations[berthv1alpha1.AnnotationModel]; ok {
		annotations[berthv1alpha1.AnnotationModel] = redact.URI(model)
	}
	return metav1.ObjectMeta{
		Name: m.Name, GenerateName: m.GenerateName, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp, DeletionGracePeriodSeconds: m.DeletionGracePeriodSeconds,
		Labels: maps.Clone(m.Labels), Annotations: annotations, OwnerReferences: m.OwnerReferences,
	}
}

// keptOf returns what is in a file of an object.
func keptOf(obj runtime.Object) runtime.Object {
	switch o := obj.(type) {
	case *corev1.Pod:
		return keptPod(o)
	case *corev1.Node:
		return &corev1.Node{
			TypeMeta: o.TypeMeta, ObjectMeta: keptMeta(&o.ObjectMeta),
			Spec: corev1.NodeSpec{Unschedulable: o.Spec.Unschedulable, Taints: o.Spec.Taints, PodPreemptionPolicy: o.Spec.PodPreemptionPolicy},
			Status: corev1.NodeStatus{
				Capacity: o.Status.Capacity, Allocatable: o.Status.Allocatable, Images: o.Status.Images, RuntimeHandlers: o.Status.RuntimeHandlers,
				DeclaredFeatures: o.Status.DeclaredFeatures, Conditions: readiness(o.Status.Conditions),
			},
		}
	case *corev1.Service:
		return &corev1.Service{TypeMeta: o.TypeMeta, ObjectMeta: keptMeta(&o.ObjectMeta), Spec: corev1.ServiceSpec{Selector: o.Spec.Selector}}
	case *corev1.Namespace:
		return &corev1.Namespace{TypeMeta: o.TypeMeta, ObjectMeta: keptMeta(&o.ObjectMeta)}
	case *appsv1.ReplicaSet:
		return &appsv1.ReplicaSet{TypeMeta: o.TypeMeta, ObjectMeta: keptMeta(&o.ObjectMeta), Spec: appsv1.ReplicaSetSpec{Replicas: o.Spec.Replicas, Selector: o.Spec.Selector}}
	case *appsv1.StatefulSet:
		return &appsv1.StatefulSet{TypeMeta: o.TypeMeta, ObjectMeta: keptMeta(&o.ObjectMeta), Spec: appsv1.StatefulSetSpec{Replicas: o.Spec.Replicas, Selector: o.Spec.Selector}}
	case *corev1.PersistentVolume:
		o.ObjectMeta = keptMeta(&o.ObjectMeta)
		o.Spec.MountOptions, o.Status.Message = nil, ""
		o.Spec.PersistentVolumeSource = keptSource(&o.Spec.PersistentVolumeSource)
		return o
	case *storagev1.VolumeAttachment:
		return &storagev1.VolumeAttachment{
			TypeMeta: o.TypeMeta, ObjectMeta: keptMeta(&o.ObjectMeta), Status: storagev1.VolumeAttachmentStatus{Attached: o.Status.Attached},
			Spec: storagev1.VolumeAttachmentSpec{Attacher: o.Spec.Attacher, NodeName: o.Spec.NodeName, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: o.Spec.Source.PersistentVolumeName}},
		}
	case *coordinationv1.Lease:
		lease := &coordinationv1.Lease{
			TypeMeta: o.TypeMeta, ObjectMeta: keptMeta(&o.ObjectMeta),
			Spec: coordinationv1.LeaseSpec{RenewTime: o.Spec.RenewTime, LeaseDurationSeconds: o.Spec.LeaseDurationSeconds},
		}
		if holder := o.Spec.HolderIdentity; holder != nil && *holder != "" { // the name of a pod: that there is one is enough
			lease.Spec.HolderIdentity = new(redacted)
		}
		return lease
	case *storagev1.StorageClass:
		o.ObjectMeta = keptMeta(&o.ObjectMeta)
		o.Parameters, o.MountOptions = nil, nil
		return o
	case *resourcev1.ResourceClaim:
		o.ObjectMeta = keptMeta(&o.ObjectMeta)
		o.Spec.Devices.Config, o.Status.Devices = nil, nil
		if o.Status.Allocation != nil {
			o.Status.Allocation.Devices.Config = nil
		}
		return o
	case *resourcev1.ResourceClaimTemplate:
		o.ObjectMeta, o.Spec.ObjectMeta = keptMeta(&o.ObjectMeta), metav1.ObjectMeta{}
		o.Spec.Spec.Devices.Config = nil
		return o
	case *resourcev1.DeviceClass:
		o.ObjectMeta = keptMeta(&o.ObjectMeta)
		o.Spec.Config = nil
		return o
	case *schedulingv1.PriorityClass:
		o.ObjectMeta, o.Description = keptMeta(&o.ObjectMeta), ""
		return o
	}
	if o, ok := obj.(metav1.ObjectMetaAccessor); ok { // their specifications tell nothing but what a scheduler reads
		if m, ok := o.GetObjectMeta().(*metav1.ObjectMeta); ok {
			*m = keptMeta(m)
		}
	}
	return obj
}

func readiness(conditions []corev1.NodeCondition) (kept []corev1.NodeCondition) {
	for _, c := range conditions {
		kept = append(kept, corev1.NodeCondition{Type: c.Type, Status: c.Status, LastTransitionTime: c.LastTransitionTime})
	}
	return kept
}

// keptSource returns of what a volume is which limits of nodes it counts in.
func keptSource(s *corev1.PersistentVolumeSource) (kept corev1.PersistentVolumeSource) {
	kept.GCEPersistentDisk, kept.AWSElasticBlockStore, kept.AzureDisk = s.GCEPersistentDisk, s.AWSElasticBlockStore, s.AzureDisk
	if s.CSI != nil {
		kept.CSI = &corev1.CSIPersistentVolumeSource{Driver: s.CSI.Driver, VolumeHandle: s.CSI.VolumeHandle}
	}
	return kept
}

func keptValue(name, value string) string {
	if value != "" && (secret.MatchString(name) || !keptVariables.MatchString(name)) && !references.MatchString(value) {
		return redacted
	}
	return value
}

// keptArgs returns arguments without the values of flags that may be secrets, without what a shell is to run if that has such
// flags, and without users and queries of addresses.
func keptArgs(args []string) []string {
	out := make([]string, len(args))
	next := false
	for i, arg := range args {
		name, _, hasValue := strings.Cut(arg, "=")
		isFlag := strings.HasPrefix(arg, "-")
		switch {
		case next && !isFlag:
			out[i] = redacted
		case isFlag && secret.MatchString(name) && hasValue:
			out[i] = name + "=" + redacted
		case !isFlag && secret.MatchString(arg):
			out[i] = redacted
		case strings.Contains(arg, "://"):
			out[i] = redact.Text(arg)
		default:
			out[i] = arg
		}
		next = isFlag && !hasValue && secret.MatchString(arg)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
