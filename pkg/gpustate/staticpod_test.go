// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	bt "github.com/berth-dev/berth/internal/testing"
)

func TestReportedUID(t *testing.T) {
	const hash, other = "8daa50c3a64c9ff60bb9eab7b44b56fd", "1b2c3d4e-1111-4222-8333-444444444444"
	for _, tc := range []struct {
		name        string
		annotations map[string]string
		want        types.UID
	}{
		{"a pod", nil, "own"},
		{"a static pod's mirror", map[string]string{"kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash}, hash},
		{"a pod with the hash alone", map[string]string{"kubernetes.io/config.hash": hash}, "own"},
		{"one that claims to be another pod of the API", map[string]string{"kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": other}, "own"},
		{"one that claims nonsense", map[string]string{"kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": "8DAA50C3A64C9FF60BB9EAB7B44B56FD"}, "own"},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "own", Annotations: tc.annotations}}
		if got := ReportedUID(pod); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// Reports name static pods by the hash of their manifest. Their memory does not come back while they live, and what they
// hold through the device plugin is known.
func TestStaticPodsAreKnownInReports(t *testing.T) {
	const hash = "8daa50c3a64c9ff60bb9eab7b44b56fd"
	static := bt.MakePod("static").WholeGPUs(1).Node(testNode).Created(epoch).Obj()
	static.Annotations = map[string]string{"kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash}

	f := newFixture(t).sharedWithPlugin()
	f.report(bt.MakeGPUNodeOf(testNode, 2, "80Gi").At("GPU-0").AssignedPods(hash).At("GPU-1").Process(hash, "50Gi").Process("", "5Gi"))
	for what, q := range map[string]Query{"now": {}, "once all is back": {Drained: true}} {
		v := f.view(q, static)
		if v.Reason != "" {
			t.Errorf("%s: the node cannot be used: %s", what, v.Reason)
		}
		f.wantFree(what, v, 0, 25)
	}
}
