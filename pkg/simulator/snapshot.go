// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
)

// Snapshot is what is known of a cluster at one moment.
type Snapshot struct {
	// Time is when it was taken, by the cluster's clock: how old a report is counts from it.
	Time time.Time
	// Config is the KubeSchedulerConfiguration of the scheduler; empty = as it is shipped.
	Config []byte
	// Objects are of the kinds that a scheduler reads: GPUNodes as gpunode.Object, decoded; all others as in their API
	// packages.
	Objects []runtime.Object
	// Notes say what could not be read, and what follows from that.
	Notes []string
	// Missing names what could not be read without which nothing can be simulated.
	Missing []string
}

// ErrMissing is why a snapshot cannot be simulated that lacks something.
type ErrMissing struct{ What []string }

func (e *ErrMissing) Error() string {
	return strings.Join(e.What, ", ") + " could not be read, without which it is not known where a pod would go: " +
		"ask for the ClusterRole berth-view, for the whole cluster"
}

// inOrder returns objects in the order in which a simulator is told of them: what pods and nodes refer to, nodes, their
// reports, then pods; each kind by name.
func inOrder(objects []runtime.Object) []runtime.Object {
	rank := map[reflect.Type]int{
		reflect.TypeFor[*corev1.Node]():                1,
		reflect.TypeFor[*gpunode.Object]():             2,
		reflect.TypeFor[*coordinationv1.Lease]():       3,
		reflect.TypeFor[*berthv1alpha1.ModelProfile](): 4,
		reflect.TypeFor[*corev1.Pod]():                 5,
	}
	type item struct {
		obj        runtime.Object
		rank       int
		kind, name string
	}
	items := make([]item, len(objects))
	for i, obj := range objects {
		kind := reflect.TypeOf(obj)
		items[i] = item{obj: obj, rank: rank[kind], kind: kind.String()}
		if accessor, err := meta.Accessor(obj); err == nil {
			items[i].name = accessor.GetNamespace() + "/" + accessor.GetName()
		}
	}
	slices.SortStableFunc(items, func(a, b item) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.kind, b.kind), strings.Compare(a.name, b.name))
	})
	out := make([]runtime.Object, len(items))
	for i := range items {
		out[i] = items[i].obj
	}
	return out
}

// sortByAge sorts pods that wait in the order of the scheduler's queue, as far as it can be told from them: the more
// important first, then the older.
func sortByAge(pods []*corev1.Pod) {
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(
			cmp.Compare(corev1helpers.PodPriority(b), corev1helpers.PodPriority(a)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name),
		)
	})
}
