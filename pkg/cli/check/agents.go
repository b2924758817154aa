// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/manifests"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// agents judges whether each node that is to have an agent has one that reports, and what the reports say.
func (c *judge) agents() []Result {
	out := c.daemonSet()
	for _, what := range []string{Nodes, GPUNodes} {
		if why := c.unread(what); why != "" {
			return append(out, unknown(idReported, "%s could not be read: %s", what, why))
		}
	}
	if why := c.unread(Leases); why != "" {
		out = append(out, unknown(idFresh, "whether agents are silent is not known: Leases could not be read: %s", why))
	}
	out = append(out, c.reports()...)
	return append(out, c.devices()...)
}

func (c *judge) daemonSet() (out []Result) {
	if why := c.unread(DaemonSets); why != "" {
		return []Result{unknown(idAgentPods, "the DaemonSet %s is not known: %s", Agent, why)}
	}
	for i := range c.DaemonSets {
		d := &c.DaemonSets[i]
		if d.Labels[LabelName] != Agent {
			continue
		}
		s := &d.Status
		switch {
		case s.DesiredNumberScheduled == 0:
			out = append(out, failed(idAgentPods, "DaemonSet %s is meant for no node: none has a label of its nodes with GPUs", d.Name).
				run("kubectl label node NODE berth.dev/gpus=true").see(pageNodes))
		case s.NumberReady < s.DesiredNumberScheduled:
			out = append(out, failed(idAgentPods, "%d of the %d pods of DaemonSet %s are ready%s", s.NumberReady, s.DesiredNumberScheduled, d.Name, c.whyNot(Agent)).
				run(c.linesFor(Agent)...).see(pageTroubles))
		case s.UpdatedNumberScheduled < s.DesiredNumberScheduled:
			out = append(out, warning(idAgentPods, "%d of the %d pods of DaemonSet %s are of its newest template", s.UpdatedNumberScheduled, s.DesiredNumberScheduled, d.Name).
				run(inNamespace+"rollout status daemonset/"+d.Name+" --timeout=2m"))
		default:
			out = append(out, ok(idAgentPods, "%s of DaemonSet %s ready", are(int(s.NumberReady), "pod"), d.Name))
		}
	}
	switch {
	case len(out) > 0:
	case c.noWorkloads():
		out = append(out, ok(idAgentPods, "no DaemonSet in %s has the label %s=%s: agents are no pods, as on a lab, or run elsewhere; their Leases say whether they live",
			berthv1alpha1.Namespace, LabelName, Agent))
	default:
		out = append(out, failed(idAgentPods, "there is no DaemonSet with the label %s=%s in %s", LabelName, Agent, berthv1alpha1.Namespace).run(c.applyAgain("agent")).see(pageInstall))
	}
	return out
}

// agentPod is a pod as the DaemonSet of the agents makes them: its own one, or the shipped one where there is none.
func (c *judge) agentPod() *corev1.Pod {
	for i := range c.DaemonSets {
		if d := &c.DaemonSets[i]; d.Labels[LabelName] == Agent {
			return &corev1.Pod{Spec: d.Spec.Template.Spec}
		}
	}
	objects, err := manifests.Objects("agent/daemonset.yaml")
	if err != nil {
		panic(fmt.Sprintf("what is shipped cannot be read: %v", err))
	}
	var d appsv1.DaemonSet
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects[0].Object, &d); err != nil {
		panic(fmt.Sprintf("what is shipped cannot be read: %v", err))
	}
	return &corev1.Pod{Spec: d.Spec.Template.Spec}
}

// hasAgent says whether the DaemonSet of the agents is meant for a node.
func (c *judge) hasAgent(node *corev1.Node) bool {
	match, err := nodeaffinity.GetRequiredNodeAffinity(c.agent).Match(node)
	return err == nil && match
}

// reports judges whether there are fresh reports, of all nodes that are to have one and of no others.
func (c *judge) reports() (out []Result) {
	var none, stale, fresh, orphans, unreadable []string
	heard, problem, unheard := "", "", 0
	known := map[string]bool{}
	for i := range c.Nodes {
		node := &c.Nodes[i]
		known[node.Name] = true
		report, isFresh := c.viewer.Snapshot.Report(node.Name, c.tracker.Policy.StaleAfter)
		switch {
		case c.Unreadable[node.Name] != "":
			unreadable, problem = append(unreadable, node.Name), c.Unreadable[node.Name]
		case report == nil && c.hasAgent(node):
			none = append(none, node.Name)
		case report == nil:
		case c.LeasesUnknown:
			unheard++
		case !isFresh && berthv1alpha1.DriverGoes(node.Labels): // the agent is sent away
		case !isFresh:
			stale, heard = append(stale, node.Name), c.lastHeard(node.Name)
		default:
			fresh = append(fresh, node.Name)
		}
	}
	for _, node := range c.reporters() {
		if !known[node] {
			orphans = append(orphans, node)
		}
	}
	if len(none) > 0 {
		out = append(out, failed(idReported, "%s to have an agent, and no report of one%s", have(len(none)), c.agentsOf(none)).of(none...).
			run(c.linesForAgent(none[0])...).see(pageTroubles))
	}
	if len(stale) > 0 {
		out = append(out, failed(idFresh, "no agent of %s was heard of for staleAfter (%s), so that they get no new pods; that of %s was last heard of %s%s",
			count(len(stale), "node"), c.Settings.StaleAfter.Duration, stale[len(stale)-1], heard, c.agentsOf(stale)).of(stale...).
			run(c.linesForAgent(stale[0])...).see(pageTroubles))
	}
	if len(fresh) > 0 {
		out = append(out, ok(idFresh, "agents of %s report", count(len(fresh), "node")))
	}
	if unheard > 0 {
		out = append(out, ok(idReported, "%s a report", have(unheard)))
	}
	if len(fresh)+len(stale)+len(none)+len(unreadable)+unheard == 0 {
		out = append(out, warning(idReported, "no node has a report, and none is labelled as one with GPUs: Berth places nothing").
			run("kubectl label node NODE berth.dev/gpus=true").see(pageNodes))
	}
	if len(unreadable) > 0 {
		out = append(out, failed(idReadable, "%s a report that cannot be read, of which nothing is believed: somebody else than the agent wrote it; that of %s: %s",
			have(len(unreadable)), unreadable[len(unreadable)-1], problem).of(unreadable...).
			run("kubectl delete gpunode "+strings.Join(unreadable, " ")).see(pageNodeReasons))
	}
	if len(orphans) > 0 {
		out = append(out, warning(idOrphans, "%s left over: their nodes are gone", count(len(orphans), "GPUNode")).of(orphans...).
			run("kubectl delete gpunode "+strings.Join(orphans, " ")))
	}
	return out
}

// have says "1 node has" or "2 nodes have".
func have(n int) string {
	if n == 1 {
		return "1 node has"
	}
	return fmt.Sprintf("%d nodes have", n)
}

// reporters are the nodes that a GPUNode is named after.
func (c *judge) reporters() (names []string) {
	for i := range c.GPUNodes {
		names = append(names, c.GPUNodes[i].Name)
	}
	for name := range c.Unreadable {
		names = append(names, name)
	}
	return names
}

func (c *judge) lastHeard(node string) string {
	if l := c.leaseOf(node); l != nil && l.Spec.RenewTime != nil {
		return c.ago(l.Spec.RenewTime.Time) + " ago"
	}
	return "never"
}

// agentsOf says what is the matter with the agents' pods of nodes.
func (c *judge) agentsOf(nodes []string) string {
	if c.noWorkloads() || c.unread(Pods) != "" || c.FromFile {
		return ""
	}
	var why []string
	for _, node := range nodes {
		i := slices.IndexFunc(c.parts[Agent], func(p *corev1.Pod) bool { return p.Spec.NodeName == node })
		if i < 0 {
			why = append(why, "no agent runs on "+node)
		} else if text := notReady(c.parts[Agent][i]); text != "" {
			why = append(why, c.parts[Agent][i].Name+" "+text)
		}
	}
	if len(why) == 0 {
		return ""
	}
	return ": " + shortened(why)
}

func (c *judge) linesForAgent(node string) []string {
	for _, pod := range c.parts[Agent] {
		if pod.Spec.NodeName == node {
			return []string{inNamespace + "describe pod " + pod.Name, inNamespace + "logs " + pod.Name + " --tail=20"}
		}
	}
	if c.noWorkloads() {
		return []string{inNamespace + "get lease " + node + " -o yaml"}
	}
	return []string{inNamespace + "get pods -o wide -l " + LabelName + "=" + Agent, inNamespace + "get lease " + node}
}

// devices tells what is wrong with GPUs, as the scheduler judges it.
func (c *judge) devices() (out []Result) {
	var contested, overbooked, sick, unknownHolders []string
	var both, surplus []string
	uuids := map[string]bool{}
	why := ""
	for _, node := range slices.Sorted(slices.Values(c.reporters())) {
		for _, d := range c.viewer.Snapshot.Contested(node, c.tracker.Policy.StaleAfter) {
			contested = append(contested, fmt.Sprintf("%s of %s", d.UUID, node))
			both = append(append(both, node), d.Nodes...)
			uuids[d.UUID] = true
		}
		_, over := c.tracker.Overbooked(node)
		for _, s := range over {
			overbooked = append(overbooked, fmt.Sprintf("GPU %d of %s (%s booked, of %s)", s.Device.Index, node, s.Booked, s.Usable))
			surplus = append(surplus, s.Pod.Namespace+"/"+s.Pod.Name)
		}
	}
	for i := range c.GPUNodes {
		gn := &c.GPUNodes[i]
		for j := range gn.Status.Devices {
			if d := &gn.Status.Devices[j]; d.Health == berthv1alpha1.DeviceUnhealthy && d.Reason != berthv1alpha1.DeviceReasonMIGParent {
				sick = append(sick, fmt.Sprintf("GPU %d of %s (%s)", d.Index, gn.Name, d.Reason))
			}
		}
		if gn.Status.AssignmentsUnknown != "" {
			unknownHolders, why = append(unknownHolders, gn.Name), gn.Status.AssignmentsUnknown
		}
	}
	if len(contested) > 0 {
		nodes := slices.Compact(slices.Sorted(slices.Values(both)))
		out = append(out, failed(idContested, "%s reported by several nodes (%s), so that no pod gets it: the agent or the token of one of these says what is not so",
			are(len(uuids), "GPU"), listed(nodes)).of(contested...).run("kubectl get gpunodes "+strings.Join(nodes, " ")+" -o yaml").see(pageDeviceReasons))
	}
	if len(overbooked) > 0 {
		out = append(out, failed(idOverbooked, "more is booked than there is: %s; the pods that came last are %s", shortened(overbooked), shortened(surplus)).of(surplus...).
			run(deletions(surplus)...).see(pageDeviceReasons))
	}
	if len(sick) > 0 {
		out = append(out, warning(idHealth, "%s unhealthy and get no pods: %s", are(len(sick), "GPU"), shortened(sick)).of(sick...).see(pageHealth))
	}
	if len(unknownHolders) > 0 {
		out = append(out, warning(idAssignments, "agents of %s cannot tell which pods the kubelet gave GPUs; that of %s: %s", count(len(unknownHolders), "node"), unknownHolders[len(unknownHolders)-1], why).
			of(unknownHolders...).see(pageAgentNeeds))
	}
	return out
}

// deletions are the lines that delete pods, NAMESPACE/NAME.
func deletions(pods []string) (lines []string) {
	for _, pod := range pods {
		namespace, name, _ := strings.Cut(pod, "/")
		lines = append(lines, "kubectl -n "+namespace+" delete pod "+name)
	}
	return lines[:min(len(lines), maxListed)]
}

// classHandler returns the runtime handler of the RuntimeClass that pods with a request get; known is false if it is not known
// which that is.
func (c *judge) classHandler() (class, handler string, known bool) {
	found := c.found(keyOf("MutatingAdmissionPolicy", "", "berth-handoff"))
	if found.Object == nil {
		return "", "", false
	}
	expression, ok := variable(found.Object, "runtimeClass")
	class, isLiteral := strings.CutPrefix(strings.TrimSuffix(strings.TrimSpace(expression), "'"), "'")
	if !ok || !isLiteral || strings.ContainsAny(class, "'\"") {
		return "", "", false
	}
	if class == "" {
		return "", "", true
	}
	for i := range c.Classes {
		if c.Classes[i].Name == class {
			return class, c.Classes[i].Handler, true
		}
	}
	return class, "", false
}

// handOff returns why a node cannot hand GPUs to pods with a handler; empty if it can.
func (c *judge) handOff(node *corev1.Node, handler string) string {
	report, _ := c.viewer.Snapshot.Report(node.Name, 0)
	h := gpustate.HandOff{Handler: handler}
	_, reason := h.FormOn(node, report)
	if reason == "" {
		return ""
	}
	why := string(reason)
	if note := report.HandOffNote(handler); reason == gpustate.ReasonNoHandOff && note != "" {
		why = note
	}
	return why
}
