// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package mix

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	fwk "k8s.io/kube-scheduler/framework"
	testclock "k8s.io/utils/clock/testing"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/requests"
	"github.com/berth-dev/berth/pkg/plugin/shared"
)

type handle struct{ fwk.Handle }

func (handle) ProfileName() string { return berthv1alpha1.SchedulerName }

// newBook returns an empty book with a clock to turn.
func newBook() (*Book, *testclock.FakeClock) {
	c := testclock.NewFakeClock(bt.Epoch)
	w := &shared.World{Handle: handle{}, Clock: c, Tracker: gpustate.NewTracker(alloc.Bytes{}, gpustate.Policy{}, c)}
	return NewBook(w, &requests.Reader{Exists: func(*corev1.Pod) bool { return true }}), c
}

// seen tells of pods as the informers do.
func (b *Book) seen(pods ...*bt.Pod) {
	for _, p := range pods {
		b.Tracker.PodSeen(p.Obj())
		b.Seen(p.Obj())
	}
}

// told says in lines what is counted, in the order of the kinds.
func (b *Book) told() (lines []string) {
	for _, k := range b.inOrder() {
		line := fmt.Sprintf("%d × %d GPU of %s", b.kinds[k].pods, k.devices, k.share)
		if k.host != (alloc.Host{}) {
			line += fmt.Sprintf(", %dm, %s", k.host.CPU, k.host.Memory)
		}
		if k.where != "" {
			line += ", on some nodes"
		}
		lines = append(lines, line)
	}
	return lines
}

func on(p *bt.Pod, model string) *bt.Pod {
	p.Spec.NodeSelector = map[string]string{"model": model}
	return p
}

func host(p *bt.Pod, cpu, memory string) *bt.Pod {
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}
	return p
}

func TestWhoIsCounted(t *testing.T) {
	for _, tc := range []struct {
		name string
		pods []*bt.Pod
		want []string
	}{
		{"nobody", nil, nil},
		{"pods that ask for the same are of one kind, the most frequent first", []*bt.Pod{
			host(bt.MakePod("a").Memory("10Gi"), "2", "4Gi"), bt.MakePod("b").Memory("20Gi"), bt.MakePod("c").Memory("20Gi"),
		}, []string{"2 × 1 GPU of 20Gi", "1 × 1 GPU of 10Gi, 2000m, 4Gi"}},
		{"one that waits would rather have the fewest GPUs", []*bt.Pod{bt.MakePod("a").Memory("60Gi").GPUCount("2,4")}, []string{"1 × 2 GPU of 30Gi"}},
		{"one that is bound has what it was given, the smallest share of it", []*bt.Pod{
			bt.MakePod("a").Memory("60Gi").GPUCount("1,2").Bound("node", bt.Epoch, "GPU-0=31Gi", "GPU-1=29Gi"),
		}, []string{"1 × 2 GPU of 29Gi"}},
		{"one that waits and is bound then counts once", []*bt.Pod{
			bt.MakePod("a").Memory("60Gi").GPUCount("1,2"), bt.MakePod("a").Memory("60Gi").GPUCount("1,2").Bound("node", bt.Epoch, "GPU-0=30Gi", "GPU-1=30Gi"),
		}, []string{"1 × 2 GPU of 30Gi"}},
		{"nodes that a pod chooses make another kind", []*bt.Pod{
			on(bt.MakePod("a").Memory("10Gi"), "A"), on(bt.MakePod("b").Memory("10Gi"), "B"), bt.MakePod("c").Memory("10Gi"), on(bt.MakePod("d").Memory("10Gi"), "B"),
		}, []string{"2 × 1 GPU of 10Gi, on some nodes", "1 × 1 GPU of 10Gi", "1 × 1 GPU of 10Gi, on some nodes"}},
		{"not those of others, without GPU memory, of an unknown size, with an unreadable allocation, or that have ended", []*bt.Pod{
			bt.MakePod("a").Memory("10Gi").Scheduler("other"), bt.MakePod("b"), bt.MakePod("c").Model("ollama://x").Runtime("ollama"), bt.MakePod("d").Memory("30"),
			bt.MakePod("e").Memory("10Gi").Node("node").Allocation("?"), bt.MakePod("f").Memory("10Gi"), bt.MakePod("f").Memory("10Gi").Phase(corev1.PodFailed),
			bt.MakePod("g").Node("node"),
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, _ := newBook()
			b.seen(tc.pods...)
			if diff := cmp.Diff(tc.want, b.told()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestBookDoesNotGrow: of pods that are gone nothing is kept.
func TestBookDoesNotGrow(t *testing.T) {
	b, _ := newBook()
	for i := range 50 {
		b.seen(bt.MakePod(fmt.Sprint(i)).Memory(fmt.Sprintf("%dGi", 1+i)))
	}
	for i := range 50 {
		b.Gone(bt.MakePod(fmt.Sprint(i)).Pod.UID)
		b.Gone("a stranger")
	}
	if len(b.of)+len(b.kinds) != 0 {
		t.Errorf("kept: %v, %v", b.of, b.kinds)
	}
	if m := b.For(gpustate.Ranked{}); m != nil {
		t.Errorf("the mix of nothing is %v", m)
	}
}

// TestMixLeavesOutWhatIsRare: the kinds of 95 % of the pods are in it, the most frequent ones.
func TestMixLeavesOutWhatIsRare(t *testing.T) {
	b, _ := newBook()
	for i := range 20 {
		b.seen(bt.MakePod(fmt.Sprint(i)).Memory([]string{"10Gi", "20Gi", "30Gi"}[min(i/18, 1)+i/19]))
	}
	if diff := cmp.Diff([]string{"18 × 1 GPU of 10Gi", "1 × 1 GPU of 20Gi", "1 × 1 GPU of 30Gi"}, b.told()); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if got := len(b.frequent()); got != 2 {
		t.Errorf("%d kinds", got)
	}
}

// TestWhenTheMixIsRenewed: once a sixteenth of the pods has changed, and not amid pods that ask for the same.
func TestWhenTheMixIsRenewed(t *testing.T) {
	b, clock := newBook()
	asked, other := gpustate.Ranked{Shape: 1}, gpustate.Ranked{Shape: 2}
	next := 0
	come := func(n int) {
		for range n {
			next++
			b.seen(bt.MakePod(fmt.Sprint(next)).Memory("10Gi"))
		}
	}
	come(32)
	last := b.For(asked)
	for _, step := range []struct {
		name    string
		come    int
		after   time.Duration
		asked   gpustate.Ranked
		renewed bool
	}{
		{"nothing changed", 0, time.Hour, other, false},
		{"too little did", 2, 0, asked, false},
		{"a sixteenth, but the same is asked for", 1, pause - 1, asked, false},
		{"then something else", 0, 0, other, true},
		{"a sixteenth, and the same after a pause", 3, pause, other, true},
	} {
		come(step.come)
		clock.Step(step.after)
		got := b.For(step.asked)
		if got == nil || (got != last) != step.renewed {
			t.Errorf("%s: %v, before %v", step.name, got, last)
		}
		last = got
	}
	for i := range 3 {
		b.Gone(bt.MakePod(fmt.Sprint(i + 1)).Pod.UID)
	}
	if b.For(asked) == last {
		t.Error("that pods left is no change")
	}
}
