// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package needs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	testclock "k8s.io/utils/clock/testing"

	bt "github.com/berth-dev/berth/internal/testing"
)

var epoch = bt.Epoch

// list is a list whose pods all wait on node "here", with when those are judged that it has judged since the last look, from now.
type list struct {
	*List
	clock  *testclock.FakeClock
	judged map[types.UID][]time.Duration
}

func newList(t *testing.T, claims ...*corev1.PersistentVolumeClaim) *list {
	t.Helper()
	nodes := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	_ = nodes.Add(node("here", "a"))
	volumeClaims := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, c := range claims {
		_ = volumeClaims.Add(c)
	}
	l := &list{clock: testclock.NewFakeClock(epoch), judged: map[types.UID][]time.Duration{}}
	l.List = &List{
		Clock: l.clock, Nodes: corelisters.NewNodeLister(nodes), VolumeClaims: corelisters.NewPersistentVolumeClaimLister(volumeClaims),
		WaitsOn: func(types.UID) string { return "here" },
		Judge:   func(uid types.UID, at time.Time) { l.judged[uid] = append(l.judged[uid], at.Sub(l.clock.Now())) },
	}
	return l
}

func node(name, zone string) *corev1.Node {
	n := bt.MakeNode(name)
	n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	return n
}

// other is a pod that others need, or avoid.
func other(on string, labels map[string]string) *corev1.Pod {
	p := bt.MakePod("other").Node(on).Obj()
	p.Labels = labels
	return p
}

// app selects pods by their label app; terms is one term of a zone with it.
func app(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func terms(name string) []corev1.PodAffinityTerm {
	return []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelTopologyZone, LabelSelector: app(name)}}
}

func needing(edit func(*corev1.Pod)) *corev1.Pod {
	p := bt.MakePod("waiting").Memory("60Gi").Obj()
	p.Labels = map[string]string{"app": "waiting"}
	edit(p)
	return p
}

func nearCache(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms("cache")}}
}

func noNoise(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms("noise")}}
}

func apart(p *corev1.Pod) {
	p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: app("waiting"),
	}}
}

// TestNeighboursElsewhere: a pod is judged again when a pod on whatever node comes, goes or changes that may count for it.
func TestNeighboursElsewhere(t *testing.T) {
	labelled := func(name string) map[string]string { return map[string]string{"app": name} }
	terminating := func(p *corev1.Pod) *corev1.Pod {
		b := &bt.Pod{Pod: *p}
		return b.Terminating(epoch).Obj()
	}
	elsewhere := func(p *corev1.Pod) *corev1.Pod {
		p.Namespace = "elsewhere"
		return p
	}
	cases := []struct {
		name          string
		pod           func(*corev1.Pod)
		before, after *corev1.Pod
		want          bool
	}{
		{"the neighbour that it needs goes", nearCache, other("there", labelled("cache")), nil, true},
		{"the neighbour that it needs is another's by now", nearCache, other("there", labelled("cache")), other("there", labelled("else")), true},
		{"the first neighbour comes", nearCache, nil, other("there", labelled("cache")), true},
		{"a stranger goes", nearCache, other("there", labelled("else")), nil, false},
		{"the neighbour goes on", nearCache, other("there", labelled("cache")), other("there", labelled("cache")), false},
		{"a pod of another namespace goes", nearCache, elsewhere(other("there", labelled("cache"))), nil, false},
		{"a pod that was on no node goes", nearCache, other("", labelled("cache")), nil, false},
		{"a pod is placed, as which it is not avoided", noNoise, other("", labelled("else")), other("there", labelled("else")), false},
		{"a pod is placed that it avoids", noNoise, other("", labelled("noise")), other("there", labelled("noise")), true},
		{"a pod goes that it avoids", noNoise, other("there", labelled("noise")), nil, false},
		{"a pod is placed that avoids it", func(*corev1.Pod) {}, nil, func() *corev1.Pod {
			p := other("there", labelled("shy"))
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms("waiting")}}
			return p
		}(), true},
		{"another replica goes, from whom it is spread", apart, other("there", labelled("waiting")), nil, true},
		{"another replica terminates", apart, other("there", labelled("waiting")), terminating(other("there", labelled("waiting"))), true},
		{"it was terminating before", apart, terminating(other("there", labelled("waiting"))), nil, false},
		{"it would rather be spread, but need not", func(p *corev1.Pod) {
			apart(p)
			p.Spec.TopologySpreadConstraints[0].WhenUnsatisfiable = corev1.ScheduleAnyway
		}, other("there", labelled("waiting")), nil, false},
		{"of another namespace, which it selects by labels that are not known", func(p *corev1.Pod) {
			nearCache(p)
			p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].NamespaceSelector = app("x")
		}, elsewhere(other("there", labelled("cache"))), nil, true},
		{"it needs nothing", func(*corev1.Pod) {}, other("there", labelled("cache")), nil, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			l := newList(t)
			l.Add(needing(tc.pod))
			l.PodChanged(tc.before, tc.after)
			l.want(t, tc.want)
		})
	}
}

func (l *list) want(t *testing.T, judged bool) {
	t.Helper()
	want := map[types.UID][]time.Duration{}
	if judged {
		want["waiting"] = []time.Duration{delay, delay + pause}
	}
	if diff := cmp.Diff(want, l.judged); diff != "" {
		t.Errorf("judged again (-want +got):\n%s", diff)
	}
}

// TestTopologies: a node that comes, goes, or is moved to another zone brings, takes or moves its pods.
func TestTopologies(t *testing.T) {
	for _, tc := range []struct {
		name          string
		pod           func(*corev1.Pod)
		before, after *corev1.Node
		want          bool
	}{
		{"a node is gone", nearCache, node("there", "a"), nil, true},
		{"a node is moved", nearCache, node("there", "a"), node("there", "b"), true},
		{"a node comes, with a zone that is empty", apart, nil, node("there", "b"), true},
		{"another label changes", apart, node("there", "a"), func() *corev1.Node {
			n := node("there", "a")
			n.Labels["x"] = "y"
			return n
		}(), false},
		{"it counts nobody", func(*corev1.Pod) {}, node("there", "a"), nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newList(t)
			l.Add(needing(tc.pod))
			l.NodeChanged(tc.before, tc.after)
			l.want(t, tc.want)
		})
	}
}

// volumeClaim is a claim of class "fast", bound to a volume or, if that is "", not.
func volumeClaim(name, volume string) *corev1.PersistentVolumeClaim {
	class := "fast"
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)},
		Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: &class, VolumeName: volume},
	}
}

// persistentVolume is a volume of class "fast" that a claim has, or nobody.
func persistentVolume(of string, zones ...string) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{StorageClassName: "fast"}}
	if of != "" {
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "default", Name: of}
	}
	pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: zones}},
	}}}}
	return pv
}

func class(name string, zones ...string) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, AllowedTopologies: []corev1.TopologySelectorTerm{{
		MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: corev1.LabelTopologyZone, Values: zones}},
	}}}
}

func csiNode(name string, drivers ...storagev1.CSINodeDriver) *storagev1.CSINode {
	return &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.CSINodeSpec{Drivers: drivers}}
}

func capacity(class, zone, size string) *storagev1.CSIStorageCapacity {
	q := resource.MustParse(size)
	return &storagev1.CSIStorageCapacity{
		StorageClassName: class, Capacity: &q,
		NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelTopologyZone: zone}},
	}
}

// TestVolumes: a pod with a volume, one without a volume yet ("unbound"), and what changes of them.
func TestVolumes(t *testing.T) {
	type volumes func(*List)
	claim := func(before, after *corev1.PersistentVolumeClaim) volumes {
		return func(l *List) { l.VolumeClaimChanged(before, after) }
	}
	pv := func(before, after *corev1.PersistentVolume) volumes {
		return func(l *List) { l.VolumeChanged(before, after) }
	}
	for _, tc := range []struct {
		name   string
		uses   string
		change volumes
		want   bool
	}{
		{"its claim is gone", "bound", claim(volumeClaim("bound", "pv"), nil), true},
		{"its claim gets a volume", "unbound", claim(volumeClaim("unbound", ""), volumeClaim("unbound", "pv")), true},
		{"its claim is as it was", "bound", claim(volumeClaim("bound", "pv"), volumeClaim("bound", "pv")), false},
		{"its claim comes", "bound", claim(nil, volumeClaim("bound", "pv")), false},
		{"another claim is gone", "bound", claim(volumeClaim("unbound", ""), nil), false},
		{"the claim of its own is gone", "ephemeral", claim(volumeClaim("waiting-v", "pv"), nil), true},
		{"its volume is gone", "bound", pv(persistentVolume("bound", "a"), nil), true},
		{"its volume is moved", "bound", pv(persistentVolume("bound", "a"), persistentVolume("bound", "b")), true},
		{"its volume is as it was", "bound", pv(persistentVolume("bound", "a"), persistentVolume("bound", "a")), false},
		{"another's volume is gone", "bound", pv(persistentVolume("unbound", "a"), nil), false},
		{"a free volume is taken, and it has one", "bound", pv(persistentVolume("", "a"), persistentVolume("x", "a")), false},
		{"a free volume is taken, and it lacks one", "unbound", pv(persistentVolume("", "a"), persistentVolume("x", "a")), true},
		{"a free volume is gone, and it lacks one", "unbound", pv(persistentVolume("", "a"), nil), true},
		{"a free volume comes", "unbound", pv(nil, persistentVolume("", "a")), false},
		{"the class is for other zones, and it lacks a volume", "unbound", func(l *List) { l.ClassChanged(class("fast", "a"), class("fast", "b")) }, true},
		{"the class is for other zones, and it has a volume", "bound", func(l *List) { l.ClassChanged(class("fast", "a"), class("fast", "b")) }, false},
		{"the class is gone", "unbound", func(l *List) { l.ClassChanged(class("fast", "a"), nil) }, true},
		{"another class is gone", "unbound", func(l *List) { l.ClassChanged(class("slow", "a"), nil) }, false},
		{"the class is as it was", "unbound", func(l *List) { l.ClassChanged(class("fast", "a"), class("fast", "a")) }, false},
		{"its node has a driver less", "bound", func(l *List) { l.CSINodeChanged(csiNode("here", storagev1.CSINodeDriver{Name: "x"}), csiNode("here")) }, true},
		{"another node has a driver less", "bound", func(l *List) {
			l.CSINodeChanged(csiNode("there", storagev1.CSINodeDriver{Name: "x"}), csiNode("there"))
		}, false},
		{"it uses no volumes", "", func(l *List) { l.CSINodeChanged(csiNode("here", storagev1.CSINodeDriver{Name: "x"}), nil) }, false},
		{"there is less room for volumes", "unbound", func(l *List) { l.CapacityChanged(capacity("fast", "a", "10Gi"), capacity("fast", "a", "1Gi")) }, true},
		{"there is more", "unbound", func(l *List) { l.CapacityChanged(capacity("fast", "a", "1Gi"), capacity("fast", "a", "10Gi")) }, false},
		{"there is none any more", "unbound", func(l *List) { l.CapacityChanged(capacity("fast", "a", "1Gi"), nil) }, true},
		{"there is less in another zone", "unbound", func(l *List) { l.CapacityChanged(capacity("fast", "b", "10Gi"), nil) }, false},
		{"there is less, and it has a volume", "bound", func(l *List) { l.CapacityChanged(capacity("fast", "a", "10Gi"), nil) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newList(t, volumeClaim("bound", "pv"), volumeClaim("unbound", ""), volumeClaim("waiting-v", "pv"))
			l.Add(needing(func(p *corev1.Pod) {
				v := corev1.Volume{Name: "v"}
				switch tc.uses {
				case "":
					return
				case "ephemeral":
					v.Ephemeral = &corev1.EphemeralVolumeSource{}
				default:
					v.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: tc.uses}
				}
				p.Spec.Volumes = append(p.Spec.Volumes, v)
			}))
			tc.change(l.List)
			l.want(t, tc.want)
		})
	}
}

// TestManyChangesAreJudgedOnceInAWhile, and none is forgotten.
func TestManyChangesAreJudgedOnceInAWhile(t *testing.T) {
	l := newList(t)
	pod := needing(nearCache)
	l.Add(pod)
	for _, step := range []struct {
		what  string
		after time.Duration
		want  []time.Duration
	}{
		{"the first", 0, []time.Duration{delay, delay + pause}},
		{"another, after a look that may have been too early for it", delay, nil},
		{"another, just before the last look", pause - delay, nil},
		{"another, at the last look", delay, []time.Duration{pause, 2 * pause}},
		{"another, long after", time.Minute, []time.Duration{delay, delay + pause}},
	} {
		l.clock.Step(step.after)
		l.Add(pod) // it was judged, and waits on
		l.judged = map[types.UID][]time.Duration{}
		l.PodChanged(other("there", map[string]string{"app": "cache"}), nil)
		if diff := cmp.Diff(step.want, l.judged["waiting"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.what, diff)
		}
	}
}

// TestWhoWaitsNoMoreIsForgotten by the next change.
func TestWhoWaitsNoMoreIsForgotten(t *testing.T) {
	l := newList(t)
	l.Add(needing(nearCache))
	l.WaitsOn = func(types.UID) string { return "" }
	l.PodChanged(other("there", map[string]string{"app": "cache"}), nil)
	if len(l.judged)+len(l.pods) > 0 {
		t.Errorf("judged %v, and %d are remembered", l.judged, len(l.pods))
	}
}

// BenchmarkPodGone is what a pod that goes costs, in the informer's handler, while 5,000 pods wait that need neighbours.
func BenchmarkPodGone(b *testing.B) {
	l := &List{
		Clock: testclock.NewFakeClock(epoch), WaitsOn: func(types.UID) string { return "here" }, Judge: func(types.UID, time.Time) { b.Fatal("judged for nothing") },
	}
	for i := range 5000 {
		p := needing(nearCache)
		p.UID = types.UID(string(rune(i)))
		l.Add(p)
	}
	gone := other("there", map[string]string{"app": "else"})
	for b.Loop() {
		l.PodChanged(gone, nil)
	}
}
