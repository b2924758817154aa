// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"strings"
	"testing"

	fwk "k8s.io/kube-scheduler/framework"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// TestMissingPolicies: by default pods are placed all the same; with StopPlacing those with a request wait, and are tried
// again once all policies are in force.
func TestMissingPolicies(t *testing.T) {
	f := newFixture(t)
	f.node(bt.MakeNode("node"), bt.MakeGPUNodeOf("node", 1, "80Gi"))
	pod := bt.MakePod("pod").Memory("30Gi").Obj()
	f.known(pod)
	f.pl.faults.Policies.Expect() // and they have not been checked yet
	f.begin(pod)

	f.pl.args.OnMissingPolicies = config.StopPlacing
	status := second(f.pl.PreFilter(f.ctx, newState(), pod, f.nodeInfos()))
	if status.Code() != fwk.UnschedulableAndUnresolvable || !strings.HasPrefix(status.Message(), string(gpustate.ReasonPolicies)+": ") {
		t.Errorf("a pod with a request: %v %q", status.Code(), status.Message())
	}
	wantStatus(t, "a plain pod", second(f.pl.PreFilter(f.ctx, newState(), bt.MakePod("plain").Obj(), f.nodeInfos())), fwk.Skip, "")
	f.pl.faults.PoliciesChanged(false)
	f.wantActivated("policies are missing")
	f.pl.faults.PoliciesChanged(true)
	f.wantActivated("policies are back", "pod")

	f.pl.faults.TellPolicies("berth-allocation: gone")
	if event := <-f.events.Events; !strings.HasPrefix(event, "Warning "+words.EventPoliciesMissing+" No pod that asks for GPU memory is placed. ") ||
		!strings.Contains(event, "berth-allocation: gone") {
		t.Errorf("event %q", event)
	}
	f.pl.faults.TellPolicies("")
	if event := <-f.events.Events; !strings.HasPrefix(event, "Normal "+words.EventPoliciesInForce) {
		t.Errorf("event %q", event)
	}
}
