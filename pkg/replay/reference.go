// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/berth-dev/berth/pkg/replay/fgd"
)

// References are strategies to compare with, as the simulator of the FGD paper has them (github.com/hkust-adsl/
// kubernetes-scheduler-simulator at 8f3d641, pkg/simulator/plugin). They score the nodes on which a pod fits from 0 to 100; of equal
// ones the first in the order of the nodes is taken. CPU, memory and number of pods are constraints.
var References = []string{"FGD", "BestFit", "Random"}

// NewReference returns a placer by one of References on empty nodes. The seed is that of Random.
func NewReference(name string, nodes []Node, t *Trace, seed uint64) Placer {
	return newReference(name, nodes, t, seed)
}

func newReference(name string, nodes []Node, t *Trace, seed uint64) *reference {
	r := &reference{books: newBooks(nodes, t.Typical())}
	switch name {
	case "FGD":
		r.chooser = newGradient(r.books, t)
	case "BestFit":
		r.chooser = newBestFit(nodes)
	case "Random":
		r.chooser = &anywhere{random(seed, streamRandom)}
	default:
		panic("no reference strategy is named " + name)
	}
	return r
}

// chooser chooses between nodes, and between the GPUs of one.
type chooser interface {
	// node returns one of the nodes, on all of which the pod fits.
	node(b *books, pod *Pod, fitting []int) int
	// gpu returns the GPU of a node for a pod that asks for one.
	gpu(n *idleNode, pod *Pod) int
	// changed tells of a node on which something was placed or removed.
	changed(b *books, node int)
}

type reference struct {
	books   *books
	chooser chooser
	fitting []int
}

// Place implements Placer.
func (r *reference) Place(pod *Pod) (Placement, string, error) {
	r.fitting = r.fitting[:0]
	for i := range r.books.nodes {
		if r.books.nodes[i].fits(pod) {
			r.fitting = append(r.fitting, i)
		}
	}
	if len(r.fitting) == 0 {
		return Placement{}, "it fits on no node", nil
	}
	at := Placement{Node: r.chooser.node(r.books, pod, r.fitting)}
	n := &r.books.nodes[at.Node]
	switch pod.GPUs {
	case 0:
	case 1:
		at.GPUs = []int{r.chooser.gpu(n, pod)}
	default:
		at.GPUs = tightest(n.gpus, pod)
	}
	if err := r.books.take(pod, at); err != nil {
		return at, "", err
	}
	r.chooser.changed(r.books, at.Node)
	return at, "", nil
}

// remove takes a pod off again that was placed.
func (r *reference) remove(pod *Pod, at Placement) {
	r.books.free(pod, at)
	r.chooser.changed(r.books, at.Node)
}

// tightest returns the GPUs with the least idle on which a pod fits; of equal ones the first.
func tightest(idle []int, pod *Pod) []int {
	var fit []int
	for g, milli := range idle {
		if milli >= pod.Milli {
			fit = append(fit, g)
		}
	}
	slices.SortStableFunc(fit, func(a, b int) int { return idle[a] - idle[b] })
	fit = fit[:pod.GPUs]
	slices.Sort(fit)
	return fit
}

// anywhere takes any node and any GPU.
type anywhere struct{ *rand.Rand }

func (a *anywhere) node(_ *books, _ *Pod, fitting []int) int { return fitting[a.IntN(len(fitting))] }
func (a *anywhere) changed(*books, int)                      {}

func (a *anywhere) gpu(n *idleNode, pod *Pod) int {
	if pod.Milli == fgd.Whole {
		return tightest(n.gpus, pod)[0]
	}
	chosen, seen := -1, 0
	for g, idle := range n.gpus {
		if idle >= pod.Milli {
			if seen++; a.IntN(seen) == 0 {
				chosen = g
			}
		}
	}
	return chosen
}

// bestFit takes the node on which the least is left of CPU and of GPUs, each as a part of the most that any node has, and there the
// GPU with the least.
type bestFit struct{ mostCPU, mostMilli float64 }

func newBestFit(nodes []Node) *bestFit {
	b := &bestFit{1, fgd.Whole} // of a cluster that has none, nothing is left
	for i := range nodes {
		b.mostCPU, b.mostMilli = max(b.mostCPU, float64(nodes[i].CPU)), max(b.mostMilli, float64(nodes[i].GPUs*fgd.Whole))
	}
	return b
}

func (c *bestFit) gpu(n *idleNode, pod *Pod) int { return tightest(n.gpus, pod)[0] }
func (c *bestFit) changed(*books, int)           {}

func (c *bestFit) node(b *books, pod *Pod, fitting []int) int {
	best, most := -1, -1
	for _, i := range fitting {
		n := &b.nodes[i]
		milli := -pod.Total()
		for _, idle := range n.gpus {
			milli += int64(idle)
		}
		left := float64(n.cpu-pod.CPU)/c.mostCPU*0.5 + float64(milli)/c.mostMilli*0.5
		if score := int((1 - left) * 100); score > most {
			best, most = i, score
		}
	}
	return best
}

// sigmoid maps the change of a fragmentation in GPUs to a score.
func sigmoid(gpus float64) int { return int(100 / (1 + math.Exp(-gpus))) }
