// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/util/compatibility"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/serverversion"
	"github.com/berth-dev/berth/internal/version"
	"github.com/berth-dev/berth/pkg/cli/check"
	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/plugin/policies"
	"github.com/berth-dev/berth/pkg/simulator"
)

// askingPerson is serverversion.DefaultAsking for somebody who waits.
var askingPerson = serverversion.Asking{Answers: 3, Timeout: 5 * time.Second, Pause: time.Second, Patience: 10 * time.Second}

// readers is how many requests are under way at once.
const readers = 8

// Facts reads what check judges, and tries the policies by dry runs if probe says so. What cannot be read is among Unread; an
// error means that the cluster does not answer, or does not know the user.
func (c *Client) Facts(ctx context.Context, probe bool) (*check.Facts, error) {
	// Whoever may do nothing may ask this. Without an answer there is no use in trying the rest.
	_, err := c.kube.Discovery().ServerVersion()
	if err != nil && !apierrors.IsForbidden(err) {
		return nil, err
	}
	f := newFacts()
	r := &reading{Client: c, facts: f}
	r.note(check.ServerVersion, err)
	if err == nil {
		r.read(check.ServerVersion, func() (err error) {
			f.Server, err = askingPerson.Lowest(ctx, c.config)
			return err
		})
	}
	r.read(check.MutatingVersion, func() (err error) {
		f.Mutating, err = policies.MutatingVersion(ctx, c.kube.Discovery().RESTClient())
		return err
	})
	r.lists(ctx)
	for _, o := range check.Needed(f.Mutating) {
		r.tasks = append(r.tasks, func() { r.installed(ctx, o) })
	}
	r.run()
	if f.LeasesUnknown = f.Unread[check.Leases] != ""; f.LeasesUnknown {
		f.Time = c.clock.now()
	}
	useConfig(ctx, f, f.ConfigMaps)
	for _, pod := range f.NotReady() {
		f.Ready[pod] = c.askReady(ctx, pod)
	}
	if probe {
		checker, err := policies.NewChecker(c.config, f.LeftOut())
		if err != nil {
			return nil, err
		}
		f.Probed = checker.Check(ctx)
	}
	return f, ctx.Err()
}

func newFacts() *check.Facts {
	return &check.Facts{
		Unread: map[string]string{}, Installed: map[string]check.Found{}, Ready: map[string]string{}, Settings: gpumap.DefaultSettings(),
		KubeSelf: kubeVersion(), Self: version.Tag(),
	}
}

// kubeVersion is the version of Kubernetes that the scheduler of this version is built from.
func kubeVersion() *utilversion.Version {
	v := compatibility.DefaultBuildEffectiveVersion().BinaryVersion()
	return utilversion.MajorMinor(v.Major(), v.Minor())
}

// reading reads many things at once.
type reading struct {
	*Client
	facts *check.Facts
	mu    sync.Mutex
	tasks []func()
}

func (r *reading) run() {
	var g errgroup.Group
	g.SetLimit(readers)
	for _, task := range r.tasks {
		g.Go(func() error {
			task()
			return nil
		})
	}
	_ = g.Wait() // none fails
}

// note takes down why something could not be read.
func (r *reading) note(what string, err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts.Unread[what] = unreadWhy(err)
}

// unreadWhy says, for people, why something could not be read.
func unreadWhy(err error) string {
	if apierrors.IsForbidden(err) {
		return "you may not (" + err.Error() + ")"
	}
	return err.Error()
}

// read reads something now.
func (r *reading) read(what string, read func() error) { r.note(what, read()) }

// later reads something together with others.
func (r *reading) later(what string, read func() error) {
	r.tasks = append(r.tasks, func() { r.note(what, read()) })
}

// list reads all objects of a kind, later.
func list[L any](ctx context.Context, r *reading, what string, read func(context.Context, metav1.ListOptions) (L, error), o metav1.ListOptions, take func(L)) {
	r.later(what, func() error {
		l, err := read(ctx, o)
		if err == nil {
			take(l)
		}
		return err
	})
}

func (r *reading) lists(ctx context.Context) {
	const ours = berthv1alpha1.Namespace
	f, all, ofLeases := r.facts, metav1.ListOptions{}, metav1.ListOptions{FieldSelector: "involvedObject.kind=Lease"}
	core, apps := r.kube.CoreV1(), r.kube.AppsV1()
	list(ctx, r, check.Nodes, core.Nodes().List, all, func(l *corev1.NodeList) { f.Nodes = l.Items })
	list(ctx, r, check.Pods, core.Pods(metav1.NamespaceAll).List, all, func(l *corev1.PodList) { f.Pods = l.Items })
	list(ctx, r, check.ConfigMaps, core.ConfigMaps(ours).List, all, func(l *corev1.ConfigMapList) { f.ConfigMaps = l.Items })
	list(ctx, r, check.Events, core.Events(ours).List, ofLeases, func(l *corev1.EventList) { f.Events = l.Items })
	list(ctx, r, check.Deployments, apps.Deployments(ours).List, all, func(l *appsv1.DeploymentList) { f.Deployments = l.Items })
	list(ctx, r, check.DaemonSets, apps.DaemonSets(ours).List, all, func(l *appsv1.DaemonSetList) { f.DaemonSets = l.Items })
	list(ctx, r, check.Leases, r.kube.CoordinationV1().Leases(ours).List, all, func(l *coordinationv1.LeaseList) {
		f.Leases, f.Time = l.Items, r.clock.now() // what they tell is of now, however long the rest takes
	})
	list(ctx, r, check.Quotas, core.ResourceQuotas(metav1.NamespaceAll).List, all, func(l *corev1.ResourceQuotaList) { f.Quotas = l.Items })
	list(ctx, r, check.RuntimeClasses, r.kube.NodeV1().RuntimeClasses().List, all, func(l *nodev1.RuntimeClassList) { f.Classes = l.Items })
	r.later(check.DRA, func() error { return r.readDRA(ctx, &f.Objects) })
	r.later(check.GPUNodes, func() error {
		reports := &gpunode.List{}
		err := r.berth.Get().Resource("gpunodes").Do(ctx).Into(reports)
		for i := range reports.Items {
			reports.Items[i].Decode()
			addReport(&f.Objects, &reports.Items[i])
		}
		return err
	})
	r.later(check.ModelProfiles, func() error {
		profiles := &berthv1alpha1.ModelProfileList{}
		err := r.berth.Get().Resource("modelprofiles").Do(ctx).Into(profiles)
		f.Profiles = profiles.Items
		return err
	})
	r.later(check.LeaderTerms, func() error {
		term := &berthv1alpha1.LeaderTerm{}
		err := r.berth.Get().Resource("leaderterms").Name(berthv1alpha1.LeaderTermName).Do(ctx).Into(term)
		if apierrors.IsNotFound(err) {
			return nil
		}
		f.TermHolder = term.Spec.Holder
		return err
	})
}

// installed reads an object of the installation.
func (r *reading) installed(ctx context.Context, o *unstructured.Unstructured) {
	found := check.Found{}
	text, err := r.kube.Discovery().RESTClient().Get().AbsPath(check.PathOf(o)...).SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
	if err == nil {
		found.Object = &unstructured.Unstructured{}
		err = found.Object.UnmarshalJSON(text)
	}
	switch {
	case apierrors.IsNotFound(err):
		found = check.Found{}
	case err != nil:
		found = check.Found{Unread: unreadWhy(err)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts.Installed[check.KeyOf(o)] = found
}

// useConfig takes the scheduler's configuration from its ConfigMap.
func useConfig(ctx context.Context, f *check.Facts, maps []corev1.ConfigMap) {
	var labelled []corev1.ConfigMap
	for i := range maps {
		if maps[i].Labels[check.LabelName] == check.Scheduler {
			labelled = append(labelled, maps[i])
		}
	}
	text, name := newestConfig(labelled)
	f.ConfigName = name
	takeConfig(ctx, f, text)
}

// takeConfig has the scheduler's own code read its configuration.
func takeConfig(ctx context.Context, f *check.Facts, text []byte) {
	if len(text) == 0 {
		return
	}
	f.Config = string(text)
	settings, err := parseSettings(text)
	if err == nil {
		f.Settings = settings
		var c *simulator.ConfigCheck
		if c, err = simulator.CheckConfig(ctx, text); err == nil {
			f.ConfigFlaws, f.Args, f.NodesToScore, f.Unelected = c.Flaws, c.Args, c.NodesToScore, !c.Elects
		}
	}
	if err != nil {
		f.ConfigProblem = err.Error()
	}
}

// askReady asks a scheduler that is not ready which of its checks fail, by the API server's proxy.
func (c *Client) askReady(ctx context.Context, pod string) string {
	path, _, _ := strings.Cut(check.ReadyPath(pod), "?")
	text, err := c.kube.Discovery().RESTClient().Get().AbsPath(path).Param("verbose", "").Do(ctx).Raw()
	var bad []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "[-]") {
			bad = append(bad, strings.TrimSpace(line))
		}
	}
	switch {
	case len(bad) > 0:
		return strings.Join(bad, ", ")
	case err != nil:
		return "which of its checks fails is not known: " + unreadWhy(err)
	}
	return "now it says that all its checks pass"
}

// FactsOf returns what a snapshot tells.
func FactsOf(ctx context.Context, s *simulator.Snapshot) (*check.Facts, error) {
	f := newFacts()
	f.FromFile = true
	// Its notes say what follows for where pods go, but for the time that it is of.
	notes := slices.DeleteFunc(slices.Clone(s.Notes), func(n string) bool { return !strings.HasPrefix(n, "The file does not say when") })
	objects, _, err := UsageOf(&simulator.Snapshot{Time: s.Time, Objects: s.Objects, Notes: notes}, "")
	if err != nil {
		return nil, err
	}
	f.Objects = objects.Objects
	for _, what := range []string{check.ServerVersion, check.ConfigMaps, check.Deployments, check.DaemonSets, check.Events, check.LeaderTerms, check.Quotas} {
		f.Unread[what] = check.InFile
	}
	for _, object := range s.Objects {
		switch o := object.(type) {
		case *nodev1.RuntimeClass:
			f.Classes = append(f.Classes, *o)
		case *admissionv1.MutatingAdmissionPolicy:
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
			if err != nil {
				return nil, err
			}
			found := &unstructured.Unstructured{Object: content}
			found.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind("MutatingAdmissionPolicy"))
			f.Installed[check.KeyOf(found)] = check.Found{Object: found}
		}
	}
	// A snapshot that could read no Leases has some that say that all agents were alive. They name no holder.
	if !slices.ContainsFunc(f.Leases, func(l coordinationv1.Lease) bool { return l.Spec.HolderIdentity != nil }) {
		f.Leases, f.LeasesUnknown, f.Unread[check.Leases] = nil, true, "the file has none"
	}
	if len(f.Classes) == 0 {
		f.Unread[check.RuntimeClasses] = "the file has none"
	}
	if len(s.Config) > 0 {
		delete(f.Unread, check.ConfigMaps)
		takeConfig(ctx, f, s.Config)
	}
	return f, nil
}
