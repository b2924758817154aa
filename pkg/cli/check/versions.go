// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/serverversion"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// Components are Berth's parts, by their label app.kubernetes.io/name, which kustomize and Helm both set.
const (
	LabelName  = "app.kubernetes.io/name"
	Scheduler  = "berth-scheduler"
	Controller = "berth-controller"
	Agent      = "berth-agent"
)

// inNamespace is how lines for the shell name Berth's namespace.
const inNamespace = "kubectl -n " + berthv1alpha1.Namespace + " "

// oldest is the oldest Kubernetes on which all of Berth works: docs/support.md.
var oldest = version.MajorMinor(1, 35)

// judge makes the checks.
type judge struct {
	*Facts
	// tracker is the scheduler's view of the cluster.
	tracker *gpustate.Tracker
	viewer  *gpustate.Viewer
	// parts are Berth's own pods, by component.
	parts map[string][]*corev1.Pod
	// onNode are the pods of each node.
	onNode map[string][]*corev1.Pod
	// shipped are the objects of this program's version; helm is the name of the Helm release, if it is one.
	shipped []shippedObject
	helm    string
	// agent is a pod as the DaemonSet of the agents makes them.
	agent *corev1.Pod
}

func newJudge(f *Facts) *judge {
	c := &judge{
		Facts: f, tracker: gpumap.NewTracker(&f.Objects, f.Settings), parts: map[string][]*corev1.Pod{},
		onNode: map[string][]*corev1.Pod{}, shipped: shippedObjects(),
	}
	c.viewer, c.agent = c.tracker.Viewer(), c.agentPod()
	for i := range f.Pods {
		pod := &f.Pods[i]
		if name := pod.Labels[LabelName]; pod.Namespace == berthv1alpha1.Namespace && slices.Contains([]string{Scheduler, Controller, Agent}, name) {
			c.parts[name] = append(c.parts[name], pod)
		}
		if pod.Spec.NodeName != "" {
			c.onNode[pod.Spec.NodeName] = append(c.onNode[pod.Spec.NodeName], pod)
		}
	}
	for i := range f.Deployments {
		if release := f.Deployments[i].Annotations["meta.helm.sh/release-name"]; f.Deployments[i].Labels[LabelName] == Scheduler && release != "" {
			c.helm = release
		}
	}
	return c
}

// applyAgain is the line that puts a part of the installation as this version ships it.
func (c *judge) applyAgain(part string) string {
	switch {
	case part == "crd": // Helm does not upgrade them
		return "kubectl apply -k manifests/crd"
	case c.helm != "":
		return fmt.Sprintf("helm upgrade %s charts/berth --namespace %s --reuse-values", c.helm, berthv1alpha1.Namespace)
	case c.noWorkloads():
		return "kubectl apply -k manifests/" + part
	}
	return "kubectl apply -k berth" // the overlay of docs/install.md
}

// diff is the line that shows what of the installation is not as it was installed.
func (c *judge) diff(part string) string {
	if c.helm != "" {
		return fmt.Sprintf("helm get manifest %s --namespace %s | kubectl diff -f -", c.helm, berthv1alpha1.Namespace)
	}
	return strings.Replace(c.applyAgain(part), " apply ", " diff ", 1)
}

func (c *judge) versions() []Result {
	return append([]Result{c.serverVersion()}, c.partVersions()...)
}

func (c *judge) serverVersion() Result {
	if why := c.unread(ServerVersion); why != "" {
		return unknown(idServerVersion, "%s is not known: %s", ServerVersion, why)
	}
	newest := version.MajorMinor(c.KubeSelf.Major(), c.KubeSelf.Minor()+1)
	_, err := serverversion.ToEmulate(c.KubeSelf, c.Server)
	switch {
	case err != nil:
		return failed(idServerVersion, "the scheduler does not start: %s. Upgrade the control plane", err).see(pageSupport)
	case c.Server.LessThan(oldest):
		return failed(idServerVersion, "Kubernetes %s is too old: its API server does not take the label %s from a Binding, by which the policies know bound pods. Upgrade the control plane",
			c.Server, berthv1alpha1.LabelAllocated).see(pageSupport)
	case newest.LessThan(c.Server):
		return warning(idServerVersion, "Kubernetes %s is more than one minor version newer than the scheduler (%s), which nobody tests. Upgrade Berth",
			c.Server, c.KubeSelf).see(pageSupport)
	}
	return ok(idServerVersion, "Kubernetes %s is supported", c.Server)
}

// partVersions compares the versions of Berth's parts, as the tags of their images tell them.
func (c *judge) partVersions() []Result {
	if why := c.unread(Pods); why != "" {
		return []Result{unknown(idParts, "the versions of Berth's parts are not known: %s", why)}
	}
	tags := map[string][]string{} // the parts of each version
	var untold []string
	for _, part := range []string{Scheduler, Controller, Agent} {
		for _, pod := range c.parts[part] {
			if tag := ImageTag(pod); tag != "" {
				tags[tag] = append(tags[tag], part)
			} else {
				untold = append(untold, pod.Name)
			}
		}
	}
	var out []Result
	if len(untold) > 0 {
		out = append(out, unknown(idParts, "the version of %s is not known: the image has no tag", count(len(untold), "pod")).of(untold...))
	}
	versions := slices.Sorted(maps.Keys(tags))
	var told []string
	for _, v := range versions {
		told = append(told, v+" ("+listed(slices.Compact(slices.Sorted(slices.Values(tags[v]))))+")")
	}
	switch len(versions) {
	case 0:
		if len(untold) == 0 {
			out = append(out, unknown(idParts, "no pod in %s has the label %s of Berth's parts, so that nothing tells their versions", berthv1alpha1.Namespace, LabelName))
		}
		return out
	case 1:
		out = append(out, ok(idParts, "all parts are of version %s", versions[0]))
	default:
		out = append(out, warning(idParts, "Berth's parts are of several versions: %s. An upgrade is under way, or has stopped", listed(told)).
			run(inNamespace+"rollout status deployment/"+Scheduler+" --timeout=2m", inNamespace+"rollout status daemonset/"+Agent+" --timeout=2m").see(pageUpgrade))
	}
	if slices.Contains(versions, c.Self) {
		return append(out, ok(idOwnVersion, "this program is of version %s too", c.Self))
	}
	return append(out, warning(idOwnVersion, "this program is of version %s, the cluster's parts of %s: what it takes for missing may be of another version. Use the kubectl-berth of the same version",
		c.Self, listed(versions)).see(pageUpgrade))
}

// otherVersion says whether Berth in the cluster is known to be of another version than this program.
func (c *judge) otherVersion() bool {
	known := false
	for _, part := range []string{Scheduler, Controller} {
		for _, pod := range c.parts[part] {
			if tag := ImageTag(pod); tag == c.Self {
				return false
			} else if tag != "" {
				known = true
			}
		}
	}
	return known
}

// ImageTag returns the tag of the image of a pod's first container; empty if it has none.
func ImageTag(pod *corev1.Pod) string {
	if len(pod.Spec.Containers) == 0 {
		return ""
	}
	image := pod.Spec.Containers[0].Image
	image, _, _ = strings.Cut(image[strings.LastIndex(image, "/")+1:], "@")
	_, tag, _ := strings.Cut(image, ":")
	return tag
}
