// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

const (
	// leaseSlack is how long after its end a Lease is taken for lost: clocks differ.
	leaseSlack = 5 * time.Second
	// termSlack is how long a new leader is given to write its LeaderTerm.
	termSlack = 30 * time.Second
)

// noWorkloads says whether nothing of Berth is known to run as a Deployment: on a lab, scheduler and controller are processes.
func (c *judge) noWorkloads() bool {
	return c.unread(Deployments) == "" && !slices.ContainsFunc(c.Deployments, func(d appsv1.Deployment) bool {
		name := d.Labels[LabelName]
		return name == Scheduler || name == Controller
	})
}

func (c *judge) scheduler() []Result {
	out := c.deployment(idSchedulerPods, Scheduler)
	out = append(out, c.ready()...)
	out = append(out, c.lease(idSchedulerLease, Scheduler), c.schedulerConfig())
	out = append(out, c.sampled()...)
	out = append(out, c.oneConfig()...)
	return append(out, c.leaderTerm()...)
}

func (c *judge) controller() []Result {
	out := c.deployment(idControllerPods, Controller)
	out = append(out, c.lease(idControllerLease, Controller))
	return append(out, c.profiles()...)
}

// deployment judges whether the pods of a Deployment run, and are ready.
func (c *judge) deployment(id, part string) []Result {
	if why := c.unread(Deployments); why != "" {
		return []Result{unknown(id, "the Deployment %s is not known: %s", part, why)}
	}
	if c.noWorkloads() {
		return []Result{ok(id, "no Deployment in %s has the label %s=%s: it runs as a process, as on a lab, or elsewhere; its Lease says whether it lives",
			berthv1alpha1.Namespace, LabelName, part)}
	}
	var out []Result
	for i := range c.Deployments {
		d := &c.Deployments[i]
		if d.Labels[LabelName] != part {
			continue
		}
		out = append(out, c.configMapsOf(id, part, d.Spec.Template.Spec.Volumes)...)
		wanted := int32(1)
		if d.Spec.Replicas != nil {
			wanted = *d.Spec.Replicas
		}
		switch {
		case wanted == 0:
			out = append(out, failed(id, "Deployment %s is scaled to 0", d.Name).run(inNamespace+"scale deployment/"+d.Name+" --replicas=1"))
		case d.Status.ReadyReplicas == 0:
			out = append(out, failed(id, "none of the %d pods of Deployment %s is ready%s", wanted, d.Name, c.whyNot(part)).run(c.linesFor(part)...))
		case d.Status.ReadyReplicas < wanted:
			out = append(out, warning(id, "%d of the %d pods of Deployment %s are ready%s", d.Status.ReadyReplicas, wanted, d.Name, c.whyNot(part)).run(c.linesFor(part)...))
		case d.Status.UpdatedReplicas < wanted:
			out = append(out, warning(id, "%d of the %d pods of Deployment %s are of its newest template", d.Status.UpdatedReplicas, wanted, d.Name).
				run(inNamespace+"rollout status deployment/"+d.Name+" --timeout=2m"))
		default:
			out = append(out, ok(id, "%s of Deployment %s ready", are(int(wanted), "pod"), d.Name))
		}
	}
	if len(out) == 0 {
		out = append(out, failed(id, "there is no Deployment with the label %s=%s in %s", LabelName, part, berthv1alpha1.Namespace).run(c.applyAgain(part)).see(pageInstall))
	}
	return out
}

// are says "1 pod is" or "2 pods are".
func are(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}

// configMapsOf finds ConfigMaps that pods mount and that are not there, without which they do not start.
func (c *judge) configMapsOf(id, part string, volumes []corev1.Volume) (out []Result) {
	if c.unread(ConfigMaps) != "" {
		return nil
	}
	for i := range volumes {
		v := volumes[i].ConfigMap
		if v == nil || v.Optional != nil && *v.Optional {
			continue
		}
		if !slices.ContainsFunc(c.ConfigMaps, func(m corev1.ConfigMap) bool { return m.Name == v.Name }) {
			out = append(out, failed(id, "pods of %s mount the ConfigMap %s, which does not exist", part, v.Name).run(c.applyAgain(part)))
		}
	}
	return out
}

// whyNot says why pods of a part are not ready.
func (c *judge) whyNot(part string) string {
	var why []string
	for _, pod := range c.parts[part] {
		if text := notReady(pod); text != "" {
			why = append(why, pod.Name+" "+text)
		}
	}
	if len(why) == 0 {
		return ""
	}
	return ": " + shortened(why)
}

// notReady says why a pod is not ready; empty if it is.
func notReady(pod *corev1.Pod) string {
	for _, cond := range pod.Status.Conditions {
		switch {
		case cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse:
			return "is on no node: " + cond.Message
		case cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue:
			return ""
		}
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range statuses {
			if w := s.State.Waiting; w != nil && w.Reason != "" {
				return strings.TrimSuffix("waits: "+w.Reason+": "+w.Message, ": ")
			}
			if s.State.Running != nil && !s.Ready {
				return "runs and is not ready"
			}
		}
	}
	return "has not started"
}

// linesFor are the lines by which to look at a part.
func (c *judge) linesFor(part string) []string {
	if c.noWorkloads() {
		return []string{inNamespace + "get lease " + part + " -o yaml"}
	}
	return []string{
		inNamespace + "describe pods -l " + LabelName + "=" + part,
		inNamespace + "logs -l " + LabelName + "=" + part + " --tail=20",
	}
}

// ready tells which of its checks a scheduler that is not ready fails.
func (c *judge) ready() (out []Result) {
	for _, pod := range slices.Sorted(maps.Keys(c.Ready)) {
		out = append(out, failed(idSchedulerReady, "pod %s is not ready: %s", pod, c.Ready[pod]).of(pod).
			run("kubectl get --raw '"+ReadyPath(pod)+"'").see(pagePolicies))
	}
	return out
}

// NotReady returns the pods of the scheduler that run and are not ready.
func (f *Facts) NotReady() (out []string) {
	for i := range f.Pods {
		pod := &f.Pods[i]
		if pod.Namespace == berthv1alpha1.Namespace && pod.Labels[LabelName] == Scheduler && notReady(pod) == "runs and is not ready" {
			out = append(out, pod.Name)
		}
	}
	return out
}

// ReadyPath is where a pod of the scheduler tells its checks, by the API server's proxy.
func ReadyPath(pod string) string {
	return "/api/v1/namespaces/" + berthv1alpha1.Namespace + "/pods/https:" + pod + ":10259/proxy/readyz?verbose"
}

// lease judges whether a leader lives.
func (c *judge) lease(id, name string) Result {
	if why := c.unread(Leases); why != "" {
		return unknown(id, "whether a %s leads is not known: %s", strings.TrimPrefix(name, "berth-"), why)
	}
	if name == Scheduler && c.Unelected {
		return unknown(id, "whether the scheduler lives is not told by a Lease: its configuration has no leader election")
	}
	l := c.leaseOf(name)
	if age, leads := c.leads(l); leads {
		return ok(id, "Lease %s is held by %s, renewed %s ago", name, *l.Spec.HolderIdentity, rounded(age))
	} else if l == nil || l.Spec.RenewTime == nil {
		return failed(id, "nobody has ever held the Lease %s: no %s runs", name, strings.TrimPrefix(name, "berth-")).run(c.linesFor(name)...)
	} else if l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" {
		return failed(id, "the Lease %s is free since %s: the last holder gave it up, and no %s runs", name, rounded(age), strings.TrimPrefix(name, "berth-")).run(c.linesFor(name)...)
	} else {
		return failed(id, "the Lease %s ran out: %s renewed it %s ago, and nobody else took it", name, *l.Spec.HolderIdentity, rounded(age)).run(c.linesFor(name)...)
	}
}

func (c *judge) leaseOf(name string) *coordinationv1.Lease {
	for i := range c.Leases {
		if c.Leases[i].Name == name {
			return &c.Leases[i]
		}
	}
	return nil
}

// leads says whether a Lease is held, and how long ago it was renewed.
func (c *judge) leads(l *coordinationv1.Lease) (age time.Duration, leads bool) {
	if l == nil || l.Spec.RenewTime == nil {
		return 0, false
	}
	age = max(c.Time.Sub(l.Spec.RenewTime.Time), 0)
	if l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" || l.Spec.LeaseDurationSeconds == nil {
		return age, false
	}
	return age, age <= time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second+leaseSlack
}

func rounded(d time.Duration) string { return duration.HumanDuration(d) }

func (c *judge) ago(t time.Time) string { return rounded(max(c.Time.Sub(t), 0)) }

// lastTime is when an Event was last seen.
func lastTime(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// schedulerConfig judges the configuration as the scheduler would.
func (c *judge) schedulerConfig() Result {
	why := c.unread(ConfigMaps)
	switch {
	case why != "":
		return unknown(idSchedulerConfig, "the scheduler's configuration is not known: %s", why)
	case c.Config == "" && c.FromFile:
		return unknown(idSchedulerConfig, "the scheduler's configuration is not known: the file does not have it")
	case c.Config == "":
		return unknown(idSchedulerConfig, "no ConfigMap in %s has the label %s=%s and a config.yaml: with which arguments the scheduler runs is not known",
			berthv1alpha1.Namespace, LabelName, Scheduler).see(pageProfile)
	case c.ConfigProblem != "":
		return failed(idSchedulerConfig, "the scheduler does not take its configuration%s: %s", c.configName(), c.ConfigProblem).run(c.editConfig()...).see(pageProfile)
	case len(c.ConfigFlaws) > 0:
		return failed(idSchedulerConfig, "the scheduler's configuration%s is not right for Berth: %s", c.configName(), strings.Join(c.ConfigFlaws, "; ")).run(c.editConfig()...).see(pageProfile)
	}
	return ok(idSchedulerConfig, "the scheduler takes its configuration%s: profile %s, Berth binds, and its preemption replaces the default one", c.configName(), berthv1alpha1.SchedulerName)
}

func (c *judge) configName() string {
	if c.ConfigName == "" {
		return ""
	}
	return " (ConfigMap " + c.ConfigName + ")"
}

func (c *judge) editConfig() []string {
	if c.ConfigName == "" {
		return nil
	}
	return []string{inNamespace + "get configmap " + c.ConfigName + " -o jsonpath='{.data.config\\.yaml}'"}
}

// oneConfig finds schedulers that run with different configurations.
func (c *judge) oneConfig() []Result {
	mounted := map[string][]string{} // pods of each ConfigMap
	for _, pod := range c.parts[Scheduler] {
		if pod.DeletionTimestamp != nil {
			continue
		}
		for i := range pod.Spec.Volumes {
			if m := pod.Spec.Volumes[i].ConfigMap; m != nil {
				name := m.Name
				if sum := pod.Annotations["checksum/config"]; sum != "" {
					name += " of checksum " + sum[:min(8, len(sum))]
				}
				mounted[name] = append(mounted[name], pod.Name)
			}
		}
	}
	if len(mounted) < 2 {
		return nil
	}
	return []Result{warning(idOneConfig, "schedulers run with different configurations (ConfigMaps %s): whichever leads decides by its own", listed(slices.Sorted(maps.Keys(mounted)))).
		run(inNamespace + "rollout status deployment/" + Scheduler + " --timeout=2m").see(pageReplicas)}
}

// leaderTerm compares who leads with whose Bindings are taken.
func (c *judge) leaderTerm() []Result {
	l := c.leaseOf(Scheduler)
	if _, leads := c.leads(l); !leads || c.FromFile {
		return nil
	}
	if why := c.unread(LeaderTerms); why != "" {
		return []Result{unknown(idLeaderTerm, "whose Bindings the API server takes is not known: %s", why)}
	}
	holder := *l.Spec.HolderIdentity
	switch {
	case c.TermHolder == holder:
		return []Result{ok(idLeaderTerm, "the API server takes Bindings of the leader only")}
	case l.Spec.AcquireTime != nil && c.Time.Sub(l.Spec.AcquireTime.Time) < termSlack:
		return nil // a new leader, that is about to write it
	case c.TermHolder == "":
		return []Result{warning(idLeaderTerm, "there is no LeaderTerm %s: Bindings that arrive late from an older leader are not refused. Scheduler or its roles are of an older version", berthv1alpha1.LeaderTermName).
			run(c.applyAgain("rbac")).see(pageReplicas)}
	}
	return []Result{failed(idLeaderTerm, "%s leads, and the LeaderTerm names %s, so that the leader's Bindings are refused", holder, c.TermHolder).
		run("kubectl get leaderterm "+berthv1alpha1.LeaderTermName+" -o yaml", inNamespace+"logs -l "+LabelName+"="+Scheduler+" --tail=20").see(pageReplicas)}
}

// profiles tells which models the controller could not look up.
func (c *judge) profiles() []Result {
	if why := c.unread(ModelProfiles); why != "" {
		return []Result{unknown(idProfiles, "ModelProfiles could not be read: %s", why)}
	}
	var bad []string
	why := ""
	for i := range c.Profiles {
		p := &c.Profiles[i]
		if cond := p.ReadyCondition(); cond != nil && !p.IsReady() {
			bad, why = append(bad, p.Name), cond.Message
		}
	}
	switch {
	case len(c.Profiles) == 0:
		return []Result{ok(idProfiles, "no pod has named a model yet")}
	case len(bad) == 0:
		return []Result{ok(idProfiles, "the size of %s is known", count(len(c.Profiles), "model"))}
	}
	return []Result{warning(idProfiles, "the size of %s is not known, so that pods which name them wait; of %s: %s", count(len(bad), "model"), bad[len(bad)-1], why).
		of(bad...).run("kubectl get modelprofiles").see(pageModels)}
}
