// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/drain"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Drain evicts the pods that hold GPUs of a node, through the Eviction API, and waits until they are gone: as kubectl drain
// does, by its own code, which tries again what a PodDisruptionBudget refuses.
type Drain struct {
	*Client
	Out, ErrOut io.Writer
	DryRun      cmdutil.DryRunStrategy
	// GracePeriodSeconds is that of the pods; negative = their own.
	GracePeriodSeconds int
	// Timeout is when it gives up; zero = never.
	Timeout time.Duration
	// Force evicts pods that no controller makes again, and DeleteEmptyDirData those with data in an emptyDir.
	Force, DeleteEmptyDirData bool
}

// retryAfter is how long after an eviction was refused it is tried again: kubectl drain's own.
const retryAfter = 5 * time.Second

// Run drains GPUs, which are cordoned already.
func (d *Drain) Run(ctx context.Context, node string, gpus []GPU) error {
	if d.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	for first := true; ; first = false {
		report, err := d.Report(ctx, node)
		if err != nil {
			return err
		}
		pods, err := d.pods(ctx, node)
		if err != nil {
			return err
		}
		on := newHolding(report, gpus)
		going, err := d.choose(pods, on)
		if err != nil {
			return err
		}
		if first {
			d.tellOthers(pods, report, on)
		}
		if len(going) == 0 {
			return nil // also in the end: a Binding may have been under way when the GPUs were cordoned
		}
		if d.DryRun == cmdutil.DryRunClient {
			for i := range going {
				fmt.Fprintf(d.Out, "evicting pod %s/%s (dry run)\n", going[i].Namespace, going[i].Name)
			}
			return nil
		}
		if err := d.evict(ctx, going); err != nil || d.DryRun == cmdutil.DryRunServer {
			return err
		}
	}
}

func (d *Drain) pods(ctx context.Context, node string) ([]corev1.Pod, error) {
	list, err := d.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list the pods of node %s: %w", node, err)
	}
	return list.Items, nil
}

func (d *Drain) evict(ctx context.Context, pods []corev1.Pod) error {
	helper := &drain.Helper{
		Ctx: ctx, Client: d.Kube, GracePeriodSeconds: d.GracePeriodSeconds, EvictErrorRetryDelay: retryAfter,
		Out: d.Out, ErrOut: d.ErrOut, DryRunStrategy: d.DryRun,
		OnPodDeletionOrEvictionFinished: func(pod *corev1.Pod, _ bool, err error) {
			if err == nil {
				fmt.Fprintf(d.Out, "pod/%s evicted\n", pod.Name)
			}
		},
	}
	if d.DryRun == cmdutil.DryRunServer {
		return d.tryOnce(helper, pods)
	}
	if deadline, ok := ctx.Deadline(); ok {
		helper.Timeout = max(time.Until(deadline), time.Nanosecond) // zero would be for ever
	}
	return helper.DeleteOrEvictPods(pods)
}

// tryOnce asks the cluster whether it would evict each of the pods now. What a budget refuses is told, and not tried again, as the
// helper would: nothing that a dry run does makes room in a budget.
func (d *Drain) tryOnce(helper *drain.Helper, pods []corev1.Pod) error {
	var errs []error
	for i := range pods {
		fmt.Fprintf(d.Out, "evicting pod %s/%s (server dry run)\n", pods[i].Namespace, pods[i].Name)
		switch err := helper.EvictPod(pods[i], policyv1.SchemeGroupVersion); {
		case err == nil || apierrors.IsNotFound(err):
		case apierrors.IsTooManyRequests(err):
			fmt.Fprintf(d.ErrOut, "note: pod %s/%s would not go now, and be tried again: %v\n", pods[i].Namespace, pods[i].Name, err)
		default:
			errs = append(errs, fmt.Errorf("evict pod %s/%s: %w", pods[i].Namespace, pods[i].Name, err))
		}
	}
	return errors.Join(errs...)
}

// choose returns the pods that are to go. It fails on those that may not go without a flag, or cannot.
func (d *Drain) choose(pods []corev1.Pod, on *holding) (going []corev1.Pod, err error) {
	stay := map[string][]string{}
	for i := range pods {
		pod := &pods[i]
		if gpustate.HasEnded(pod) || !on.has(pod) {
			continue
		}
		_, static := pod.Annotations[corev1.MirrorPodAnnotationKey]
		why := ""
		switch {
		case static:
			why = "static pods, which no eviction ends: take their files from the node"
		case metav1.GetControllerOf(pod) == nil && !d.Force:
			why = "pods that no controller makes again (use --force to evict them)"
		case hasData(pod) && !d.DeleteEmptyDirData:
			why = "pods with local storage, whose data would be lost (use --delete-emptydir-data to evict them)"
		}
		if why == "" {
			going = append(going, *pod)
			continue
		}
		stay[why] = append(stay[why], pod.Namespace+"/"+pod.Name)
	}
	var errs []error
	for why, names := range stay {
		errs = append(errs, fmt.Errorf("cannot evict %s: %s", why, strings.Join(names, ", ")))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return going, errors.Join(errs...)
}

// hasData says whether a pod has an emptyDir on the node's disk. One in memory, such as /dev/shm, has nothing to keep.
func hasData(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.EmptyDir != nil && v.EmptyDir.Medium != corev1.StorageMediumMemory
	})
}

// tellOthers tells of pods that stay, although their processes hold memory of the GPUs.
func (d *Drain) tellOthers(pods []corev1.Pod, report *berthv1alpha1.GPUNodeStatus, on *holding) {
	for i := range pods {
		pod := &pods[i]
		if on.has(pod) {
			continue
		}
		for j := range report.Devices {
			device := &report.Devices[j]
			if on.devices[device.UUID] && slices.ContainsFunc(device.Processes, func(p berthv1alpha1.GPUProcess) bool { return p.PodUID == gpustate.ReportedUID(pod) }) {
				fmt.Fprintf(d.ErrOut, "note: pod %s/%s was not given %s and holds memory of it all the same: it stays\n",
					pod.Namespace, pod.Name, GPU{UUID: device.UUID, Index: int(device.Index)})
			}
		}
	}
}

// holding knows who holds some GPUs.
type holding struct {
	// devices are the UUIDs of the GPUs and of the instances that they are cut into.
	devices map[string]bool
	// assigned are the pods that hold one through the kubelet.
	assigned map[types.UID]bool
}

func newHolding(report *berthv1alpha1.GPUNodeStatus, gpus []GPU) *holding {
	h := &holding{devices: map[string]bool{}, assigned: map[types.UID]bool{}}
	for _, g := range gpus {
		h.devices[g.UUID] = true
	}
	for i := range report.Devices {
		if d := &report.Devices[i]; h.devices[d.Parent] {
			h.devices[d.UUID] = true
		}
	}
	for i := range report.Devices {
		if d := &report.Devices[i]; h.devices[d.UUID] {
			for _, pod := range d.Assigned() {
				h.assigned[pod] = true
			}
		}
	}
	return h
}

// has says whether a pod was given any of the GPUs: by Berth, or through the kubelet. An allocation that cannot be read
// may name any.
func (h *holding) has(pod *corev1.Pod) bool {
	if h.assigned[gpustate.ReportedUID(pod)] {
		return true
	}
	a, err := gpustate.BookingOf(pod)
	if err != nil || a == nil {
		return err != nil
	}
	return slices.ContainsFunc(a.Devices, func(s alloc.DeviceShare) bool { return h.devices[s.UUID] }) ||
		slices.ContainsFunc(a.Parents, func(uuid string) bool { return h.devices[uuid] })
}
