// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package explain says why a pod waits, or where it would go now, by running the scheduler on a snapshot.
package explain

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/cli/whatif"
	"github.com/berth-dev/berth/pkg/plugin"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/verdicts"
	"github.com/berth-dev/berth/pkg/simulator"
)

// APIVersion and Kind are those of the JSON form. Fields are added to it, and never change or go within a version.
const (
	APIVersion = "cli.berth.dev/v1alpha1"
	Kind       = "Explanation"
)

// Explanation is what there is to say of a pod.
type Explanation struct {
	metav1.TypeMeta `json:",inline"`
	Time            metav1.Time `json:"time"`
	whatif.Name     `json:",inline"`
	// BoundTo is the node that the pod is on; empty if it waits. Then all below is about where it would go if it were to be
	// placed again now, and Recorded is what the scheduler told when it placed it.
	BoundTo  string   `json:"boundTo,omitempty"`
	Recorded []string `json:"recorded,omitempty"`
	// Options are what it asks for: the memory on each GPU, in bytes, for each option.
	Options [][]uint64 `json:"options,omitempty"`
	// Why is what the scheduler says of it now; empty if it has a place. If something is missing, it is what the scheduler said
	// last, at Said.
	Why  string       `json:"why,omitempty"`
	Said *metav1.Time `json:"said,omitempty"`
	// Missing is what could not be read, without which the scheduler cannot be asked: then only what the pod itself tells is
	// here.
	Missing []string `json:"missing,omitempty"`
	// Nearest is what lacks on the GPU that lacks least of the node that lacks least, and who holds it.
	Nearest string `json:"nearest,omitempty"`
	// Next is when a pod that waits is tried again by what is known; nil if nothing that is known brings that about.
	Next *Next `json:"next,omitempty"`
	// Decision is what the scheduler tells of the place that it finds now, and of the options that it had; empty if it finds
	// none.
	Decision string `json:"decision,omitempty"`
	// Outcome is what becomes of it once evictions and waits that begin now are over.
	Outcome whatif.Pod `json:"outcome"`
	// Nodes are the verdicts on each node.
	Nodes []Node `json:"nodes,omitempty"`
	// Arguments are those of the scheduler that were assumed, defaults applied.
	Arguments config.Args `json:"arguments"`
	Notes     []string    `json:"notes,omitempty"`
	// Gone says that the pod is gone, or about to be: then all there is is History, what is recorded of it.
	Gone    bool    `json:"gone,omitempty"`
	History []Entry `json:"history,omitempty"`
}

// Node is a verdict on a node.
type Node struct {
	Name string `json:"name"`
	// Fits says that the pod could be placed there now; else Reason says why not, in the words of Plugin.
	Fits   bool   `json:"fits"`
	Plugin string `json:"plugin,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Short is what the option that lacks least lacks, in bytes over all GPUs; 0 if it lacks none, or it is not known.
	Short uint64 `json:"short,omitempty"`
	// GPUs judges the GPUs for the option that lacks least.
	GPUs []GPU `json:"gpus,omitempty"`
}

// GPU is a verdict on a GPU, in bytes.
type GPU struct {
	Index  int    `json:"index"`
	UUID   string `json:"uuid"`
	Free   uint64 `json:"free"`
	Needed uint64 `json:"needed"`
	Reason string `json:"reason,omitempty"`
	// Holders are who holds its memory, the largest first.
	Holders []Holder `json:"holders,omitempty"`
}

// Holder is a pod that holds memory, or processes of no known pod.
type Holder struct {
	Namespace      string     `json:"namespace,omitempty"`
	Name           string     `json:"name,omitempty"`
	Memory         uint64     `json:"memory"`
	Priority       int32      `json:"priority"`
	State          string     `json:"state,omitempty"`
	IdleSeconds    float64    `json:"idleSeconds,omitempty"`
	IdleAfter      float64    `json:"idleAfterSeconds,omitempty"`
	ProtectedUntil *time.Time `json:"protectedUntil,omitempty"`
	// LeavesBy is when the grace period of a pod ends that is being deleted.
	LeavesBy *time.Time `json:"leavesBy,omitempty"`
}

// ErrNoPod is why a pod cannot be explained that is not there, as far as can be seen.
type ErrNoPod struct{ namespace, name, seen string }

func (e *ErrNoPod) Error() string {
	return fmt.Sprintf("there is no pod %s/%s%s; name its namespace by -n", e.namespace, e.name, e.seen)
}

// Ask explains a pod of a snapshot, which it takes. The pods that wait beside it are left out, unless they were promised a
// place: what is explained is what the pod would find if it were tried next.
func Ask(ctx context.Context, s *simulator.Snapshot, namespace, name string) (*Explanation, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e := &Explanation{
		TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind}, Time: metav1.NewTime(s.Time),
		Name: whatif.Name{Namespace: namespace, Name: name},
	}
	pod := s.Pod(namespace, name)
	switch {
	case pod == nil && len(s.Missing) > 0:
		return nil, &ErrNoPod{namespace, name, " that you may read"}
	case pod == nil:
		return nil, &ErrNoPod{namespace, name, ""}
	case pod.DeletionTimestamp != nil:
		return nil, fmt.Errorf("pod %s/%s is being deleted: it is placed nowhere any more", namespace, name)
	case len(s.Missing) > 0:
		e.byItself(s, pod)
		return e, nil
	case pod.Spec.NodeName != "":
		e.BoundTo = pod.Spec.NodeName
		s.Anew(pod)
	}
	leaving := leavingBy(s)
	s.Objects = slices.DeleteFunc(s.Objects, func(obj runtime.Object) bool {
		other, ok := obj.(*corev1.Pod)
		return ok && other.Spec.NodeName == "" && other.Status.NominatedNodeName == "" && (other.Namespace != namespace || other.Name != name)
	})
	sim, err := simulator.New(ctx, s, simulator.Options{})
	if err != nil {
		return nil, err
	}
	if now := sim.Pod(namespace, name); !sim.IsOurs(now) {
		return nil, fmt.Errorf("pod %s/%s is not placed by this scheduler, but by %q", namespace, name, now.Spec.SchedulerName)
	}
	found, err := sim.Explain(namespace, name)
	if err != nil {
		return nil, err
	}
	if err := sim.Run(); err != nil {
		return nil, err
	}
	e.Why, e.Notes, e.Arguments = found.Failure, sim.Notes(), sim.Arguments()
	for _, shares := range found.Options {
		e.Options = append(e.Options, amounts(shares))
	}
	for i := range found.Nodes {
		e.Nodes = append(e.Nodes, nodeOf(&found.Nodes[i], found.Others, found.Options))
	}
	for _, h := range e.holders() {
		h.LeavesBy = leaving[whatif.Name{Namespace: h.Namespace, Name: h.Name}]
	}
	slices.SortStableFunc(e.Nodes, func(a, b Node) int { return cmp.Compare(a.rank(), b.rank()) })
	if e.Outcome, err = whatif.OutcomeOf(sim, namespace, name); err != nil {
		return nil, err
	}
	if e.Decision, err = decision(sim, namespace, name); err != nil {
		return nil, err
	}
	if e.Why != "" {
		e.Nearest = e.nearMiss()
	}
	if e.BoundTo == "" && e.Outcome.Node == "" {
		e.Next, err = next(sim, e)
	}
	return e, err
}

// byItself says what the pod tells of itself.
func (e *Explanation) byItself(s *simulator.Snapshot, pod *corev1.Pod) {
	e.BoundTo, e.Missing = pod.Spec.NodeName, s.Missing
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			e.Why, e.Said = cmp.Or(c.Message, c.Reason), &c.LastTransitionTime
		}
	}
}

// decision returns what the scheduler told of the place that it found.
func decision(sim *simulator.Simulator, namespace, name string) (string, error) {
	o, err := sim.Outcome(namespace, name)
	for _, event := range o.Events {
		if event.Reason == "GPUMemoryAllocated" {
			return event.Note, err
		}
	}
	return "", err
}

// rank orders nodes: those that fit first, then those that lack least, then those on which nothing can be done.
func (n *Node) rank() uint64 {
	switch {
	case n.Fits:
		return 0
	case n.Short > 0:
		return n.Short
	}
	return 1 << 63
}

func amounts(shares []alloc.Bytes) []uint64 {
	out := make([]uint64, len(shares))
	for i, share := range shares {
		out[i] = share.Uint64()
	}
	return out
}

func nodeOf(v *verdicts.Node, refusals map[string]simulator.Refusal, options [][]alloc.Bytes) Node {
	n := Node{Name: v.Node, Fits: true}
	if r, refused := refusals[v.Node]; refused {
		n.Fits, n.Plugin, n.Reason = false, r.Plugin, r.Message
	} else if v.Reason != "" {
		n.Fits, n.Plugin, n.Reason = false, plugin.Name, string(v.Reason)
	}
	best, least := nearest(v, options)
	if best == nil {
		return n
	}
	if !best.Fits {
		n.Short = least.Uint64()
	}
	for _, d := range best.Devices {
		g := GPU{Index: d.Index, UUID: d.UUID, Free: d.Free.Uint64(), Needed: d.Needed.Uint64(), Reason: string(d.Reason)}
		for _, h := range v.Holders[d.UUID] {
			g.Holders = append(g.Holders, holderOf(h))
		}
		slices.SortStableFunc(g.Holders, func(a, b Holder) int { return cmp.Compare(b.Memory, a.Memory) })
		n.GPUs = append(n.GPUs, g)
	}
	return n
}

// nearest returns the option that fits, or lacks least on the GPUs that lack least, of those that could ever fit.
func nearest(v *verdicts.Node, options [][]alloc.Bytes) (best *alloc.OptionVerdict, least alloc.Bytes) {
	for i := range v.Options {
		o := &v.Options[i]
		if o.Fits {
			return o, alloc.Bytes{}
		}
		shares := len(options[o.Option])
		if len(o.Devices) < shares || o.Reason == alloc.ReasonInsufficientCapacity {
			continue
		}
		shorts := make([]alloc.Bytes, len(o.Devices))
		for j := range o.Devices {
			shorts[j] = o.Devices[j].Short
		}
		slices.SortFunc(shorts, alloc.Bytes.Compare)
		var lacks alloc.Bytes
		for _, short := range shorts[:shares] {
			lacks = lacks.Plus(short)
		}
		if best == nil || lacks.Less(least) {
			best, least = o, lacks
		}
	}
	return best, least
}

func holderOf(h verdicts.Holder) Holder {
	out := Holder{
		Namespace: h.Namespace, Name: h.Name, Memory: h.Memory.Uint64(), Priority: h.Priority,
		IdleSeconds: h.Idle.Seconds(), IdleAfter: h.IdleAfter.Seconds(),
	}
	switch {
	case h.Name == "":
		out.State = "foreign"
	case h.Claimed:
		out.State = "promised"
	case h.Leaving:
		out.State = "leaving"
	}
	if !h.ProtectedUntil.IsZero() {
		out.ProtectedUntil = &h.ProtectedUntil
	}
	return out
}

// RecordedBy returns what of a pod's Events tells why it was placed where it is.
func RecordedBy(events []corev1.Event) (notes []string) {
	slices.SortFunc(events, func(a, b corev1.Event) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for i := range events {
		if e := &events[i]; e.ReportingController == berthv1alpha1.SchedulerName || e.Source.Component == berthv1alpha1.SchedulerName {
			notes = append(notes, textOf(e))
		}
	}
	return notes
}
