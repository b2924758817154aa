// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/planner"
	"github.com/berth-dev/berth/pkg/simulator/admission"
)

// Question is what nodes are to be planned for.
type Question struct {
	// Pods are as their manifests have them, in the order in which they are created, and Beside what comes with them.
	Pods   []*corev1.Pod
	Beside []runtime.Object
	// Profiles are those of the models that pods name.
	Profiles []*berthv1alpha1.ModelProfile
	Shapes   []Shape
	// Labels are those of all nodes.
	Labels map[string]string
	// Survive is how many nodes can be lost, whichever: the scheduler then finds a place for all pods of theirs on the others,
	// whose own pods stay where they are.
	Survive int
	// Spare is the fraction of the GPU memory of each shape that stays free on GPUs that one more of these pods could go on.
	Spare float64
	// Say tells what is under way.
	Say func(string)
}

// asking is a question that is being answered.
type asking struct {
	*Question
	cluster cluster
	sized   *sized
	// enough is the placement that was confirmed, and failures say why numbers of nodes were not.
	enough   *placement
	failures map[string]*failure
}

// failure is why a number of nodes is not enough.
type failure struct {
	*placement
	// spare is what stays free in pieces that can be used, of the shape of which it is too little; "" if it is not that.
	spare string
}

// Ask answers a question.
func Ask(ctx context.Context, q *Question) (*Answer, error) {
	a := &asking{Question: q, failures: map[string]*failure{}}
	pods, notes, err := a.admitted(ctx)
	if err != nil {
		return nil, err
	}
	if a.sized, err = problemOf(q.Shapes, pods, q.Profiles); err != nil {
		return nil, err
	}
	a.sized.Lost, a.sized.Spare = q.Survive, q.Spare
	answer := newAnswer(append(notes, a.sized.notes...))
	answer.Notes = append(answer.Notes, a.unlimited()...)
	if impossible, err := a.alone(ctx); err != nil || len(impossible.waiting) > 0 {
		if err == nil {
			answer.impossible(impossible)
		}
		return answer, err
	}
	found, err := planner.Fewest(&a.sized.Problem, func(counts []int) (bool, error) { return a.isEnough(ctx, counts) })
	if errors.Is(err, planner.ErrTooMany) {
		answer.failed(a, a.lastFailure(), err)
		return answer, nil
	}
	if err != nil {
		return nil, err
	}
	if err := answer.planned(a, found); err != nil {
		return nil, err
	}
	return answer, a.explain(ctx, found, answer)
}

// admitted returns the pods as the apiserver would store them, without what has no place in a plan.
func (a *asking) admitted(ctx context.Context) (pods []*corev1.Pod, notes []string, err error) {
	objects, err := clusterObjects()
	if err != nil {
		return nil, nil, err
	}
	for _, obj := range a.Beside {
		if _, isClaim := obj.(*corev1.PersistentVolumeClaim); !isClaim {
			objects = append(objects, obj)
		}
	}
	admitter, err := admission.New(objects)
	if err != nil {
		return nil, nil, err
	}
	volumes := false
	for _, pod := range a.Pods {
		admitted, err := admitter.Admit(ctx, pod)
		if err != nil {
			return nil, nil, fmt.Errorf("pod %s/%s would be refused: %w", pod.Namespace, pod.Name, err)
		}
		admitted.Spec.Volumes = slices.DeleteFunc(admitted.Spec.Volumes, func(v corev1.Volume) bool {
			of := v.PersistentVolumeClaim != nil || v.Ephemeral != nil
			volumes = volumes || of
			return of
		})
		pods = append(pods, admitted)
	}
	if volumes {
		notes = append(notes, "Claims of volumes are left out: on which nodes volumes can be is not known here")
	}
	for _, p := range a.Profiles {
		objects = append(objects, p)
	}
	a.cluster = cluster{shapes: a.Shapes, labels: a.Labels, objects: objects, pods: pods}
	return pods, notes, nil
}

// unlimited says what shapes are taken to have without limit, though pods ask for it.
func (a *asking) unlimited() (notes []string) {
	var cpu, memory bool
	for i := range a.sized.Classes {
		cpu, memory = cpu || a.sized.Classes[i].CPU > 0, memory || a.sized.Classes[i].HostMemory > 0
	}
	for i := range a.Shapes {
		s := &a.Shapes[i]
		var what []string
		form := s.Name
		if cpu && s.CPU.IsZero() {
			what, form = append(what, "CPUs"), form+":cpu=208"
		}
		if memory && s.Memory.IsZero() {
			what, form = append(what, "host memory"), form+":memory=2Ti"
		}
		if len(what) > 0 {
			notes = append(notes, fmt.Sprintf("The %s of a node of %s are taken to be without limit: say how much there is by %s", strings.Join(what, " and "), s.Name, form))
		}
	}
	return notes
}

// alone places one pod of each workload on as many nodes of each shape: those that wait then would on any number of nodes.
func (a *asking) alone(ctx context.Context) (*placement, error) {
	alone := a.cluster
	alone.pods = nil
	seen := map[string]bool{}
	for _, pod := range a.cluster.pods {
		if key := workloadOf(pod); !seen[key] {
			seen[key] = true
			alone.pods = append(alone.pods, pod)
		}
	}
	return alone.place(ctx, slices.Repeat([]int{len(alone.pods)}, len(a.Shapes)))
}

// isEnough asks the scheduler whether all pods find a place on so many nodes.
func (a *asking) isEnough(ctx context.Context, counts []int) (bool, error) {
	a.Say("Placing the pods on " + nodesText(a.Shapes, counts))
	p, f, err := a.try(ctx, a.cluster, counts)
	if err != nil || f != nil {
		a.failures[fmt.Sprint(counts)] = f
		return false, err
	}
	a.enough = p
	return true, nil
}

// try places the pods of a cluster on so many nodes, and looks at what is lost and spare then. Pods are created all at once,
// as by kubectl apply. If not all find a place so, and engines are among them beside which nothing is placed while they load,
// each is created once the one before it is Ready: what is placed where only while others load is no matter of how many nodes
// there are.
func (a *asking) try(ctx context.Context, c cluster, counts []int) (*placement, *failure, error) {
	p, f, err := a.tryOnce(ctx, c, counts)
	if f == nil || err != nil || !a.sized.loads || c.inTurn || f.spare != "" {
		return p, f, err
	}
	c.inTurn = true
	inTurn, still, err := a.tryOnce(ctx, c, counts)
	if inTurn != nil {
		inTurn.atOnce = f
	}
	return inTurn, still, err
}

func (a *asking) tryOnce(ctx context.Context, c cluster, counts []int) (*placement, *failure, error) {
	p, err := c.place(ctx, counts)
	if err != nil {
		return nil, nil, err
	}
	if len(p.waiting) > 0 {
		return p, &failure{placement: p}, nil
	}
	if a.Spare > 0 {
		if little := a.littleSpare(p); little != "" {
			return p, &failure{placement: p, spare: little}, nil
		}
	}
	if a.Survive > 0 {
		after, err := c.survives(ctx, p, a.Survive)
		if err != nil {
			return nil, nil, err
		}
		if after != nil {
			return p, &failure{placement: after}, nil
		}
	}
	return p, nil, nil
}

// littleSpare says of which shape too little memory is free in pieces that can be used; "" if of none.
func (a *asking) littleSpare(p *placement) string {
	for i, room := range a.rooms(p) {
		wanted := alloc.BytesOf(uint64(float64(room.capacity.Uint64()) * a.Spare))
		if p.counts[i] > 0 && room.usable.Less(wanted) {
			return fmt.Sprintf("%s of GPU memory are free on %s in pieces that one more of these pods could use, of %s that are to be",
				room.usable, nodesText(a.Shapes[i:i+1], p.counts[i:i+1]), wanted)
		}
	}
	return ""
}

// explain says why no fewer nodes are enough, and whether they would be in another order.
func (a *asking) explain(ctx context.Context, found *planner.Plan, answer *Answer) error {
	for s, n := range found.Counts {
		if n == 0 {
			continue
		}
		fewer := slices.Clone(found.Counts)
		fewer[s]--
		f := a.failures[fmt.Sprint(fewer)]
		if f == nil && total(fewer) > a.Survive {
			var err error
			if _, f, err = a.try(ctx, a.cluster, fewer); err != nil {
				return err
			}
		}
		answer.fewer(a, fewer, f)
		break
	}
	if found.Proven {
		return nil
	}
	return a.largestFirst(ctx, found.Bound, answer)
}

// largestFirst says whether so many nodes would be enough if the pods came in another order.
func (a *asking) largestFirst(ctx context.Context, counts []int, answer *Answer) error {
	sorted := a.cluster
	sorted.pods = slices.Clone(sorted.pods)
	size := map[string]int64{}
	for i, name := range a.sized.names {
		size[name] = a.sized.Size(i)
	}
	slices.SortStableFunc(sorted.pods, func(a, b *corev1.Pod) int { return cmp.Compare(size[workloadOf(b)], size[workloadOf(a)]) })
	_, f, err := a.try(ctx, sorted, counts)
	if err == nil && f == nil {
		answer.Notes = append(answer.Notes, nodesText(a.Shapes, counts)+" would be enough if the largest pods were created first: name them first in the manifests")
	}
	return err
}

// lastFailure returns why the most nodes that were tried are not enough; nil if none were.
func (a *asking) lastFailure() (last *failure) {
	for _, f := range a.failures {
		if last == nil || total(f.counts) > total(last.counts) {
			last = f
		}
	}
	return last
}

func total(counts []int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// nodesText writes numbers of nodes: "2 × h100-80x8 and 1 × l40s-48x4".
func nodesText(shapes []Shape, counts []int) string {
	var parts []string
	for i, n := range counts {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d × %s", n, shapes[i].Name))
		}
	}
	if len(parts) == 0 {
		return "no node"
	}
	return strings.Join(parts, " and ")
}

func newAnswer(notes []string) *Answer {
	return &Answer{TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind}, Shapes: []ShapeNodes{}, AtLeast: []ShapeNodes{}, Notes: notes}
}
