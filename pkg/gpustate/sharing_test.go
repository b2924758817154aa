// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpustate

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
)

func TestTheWorkloadOfAPod(t *testing.T) {
	tests := []struct {
		name, kind, owner string
		labels            map[string]string
		want              string
	}{
		{name: "nobody's"},
		{name: "a Deployment's, over its revisions", kind: "ReplicaSet", owner: "chat-7d9f", labels: map[string]string{"pod-template-hash": "7d9f"}, want: "Deployment/chat"},
		{name: "a ReplicaSet's own", kind: "ReplicaSet", owner: "chat", want: "ReplicaSet/chat"},
		{name: "a Rollout's", kind: "ReplicaSet", owner: "chat-7d9f", labels: map[string]string{"rollouts-pod-template-hash": "7d9f"}, want: "Rollout/chat"},
		{name: "a LeaderWorkerSet's, leaders and workers", kind: "StatefulSet", owner: "chat-0", labels: map[string]string{"leaderworkerset.sigs.k8s.io/name": "chat"}, want: "LeaderWorkerSet/chat"},
		{name: "a StatefulSet's", kind: "StatefulSet", owner: "chat", want: "StatefulSet/chat"},
		{name: "a Job's", kind: "Job", owner: "batch", want: "Job/batch"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := bt.MakePod("p").Obj()
			pod.Labels = tt.labels
			controller := true
			if tt.kind != "" {
				pod.OwnerReferences = []metav1.OwnerReference{{Kind: tt.kind, Name: tt.owner, Controller: &controller}}
			}
			if got := WorkloadOf(pod); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestClaimsKeepReplicasApart: what is kept for a replica counts as if it were there, for pods that its priority goes before.
func TestClaimsKeepReplicasApart(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	replica := func(name string) *bt.Pod {
		p := bt.MakePod(name).Memory("10Gi").Annotation("gpu-sharing", "other-workloads")
		controller := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "StatefulSet", Name: "chat", Controller: &controller}}
		return p
	}
	claimant := replica("claimant").Priority(5).Obj()
	if _, err := f.Ledger.Claim(claimant, testNode, []alloc.DeviceShare{{UUID: "GPU-0", Memory: alloc.GiB(10)}}, Claim{}); err != nil {
		t.Fatal(err)
	}
	blocked := func(q Query) alloc.Reason { return f.view(q).Devices[0].Blocked }
	company := companyOf(replica("other").Obj())
	if got := blocked(Query{Company: company}); got != alloc.ReasonSameWorkload {
		t.Errorf("a replica of lower priority: %q", got)
	}
	if got := blocked(Query{Company: company, Priority: 6}); got != "" {
		t.Errorf("one of higher priority: %q", got)
	}
	if got := blocked(Query{Company: company, Pod: claimant.UID}); got != "" {
		t.Errorf("the claimant itself: %q", got)
	}
	f.Ledger.Unclaim(claimant.UID)
	if got := f.Ledger.choosy.Load(); got != 0 {
		t.Errorf("%d pods still mind", got)
	}
}

// TestAClaimOfAPodAloneHoldsTheGPUWhole, as its booking will.
func TestAClaimOfAPodAloneHoldsTheGPUWhole(t *testing.T) {
	f := newFixture(t)
	f.report(bt.MakeGPUNodeOf(testNode, 1, "80Gi"))
	claimant := bt.MakePod("claimant").Memory("10Gi").Annotation("gpu-sharing", "none").Obj()
	if _, err := f.Ledger.Claim(claimant, testNode, []alloc.DeviceShare{{UUID: "GPU-0", Memory: alloc.GiB(10)}}, Claim{}); err != nil {
		t.Fatal(err)
	}
	f.wantFree("beside it", f.view(Query{}), 0)
}
