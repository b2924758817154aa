// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"slices"
	"strings"
	"testing"

	"github.com/berth-dev/berth/manifests"
)

// TestCheckConfig changes the shipped configuration in one way after the other.
func TestCheckConfig(t *testing.T) {
	text, err := manifests.FS.ReadFile(shippedConfig)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		old, new string // what is replaced by what
		flaw     string // among the flaws; empty = there are none
		err      string
		toScore  int32
	}{
		{name: "as it is shipped"},
		{name: "all nodes are scored", old: "profiles:\n", new: "percentageOfNodesToScore: 100\nprofiles:\n", toScore: 100},
		{name: "the profile has its own percentage", old: "profiles:\n- schedulerName: berth\n", new: "percentageOfNodesToScore: 50\nprofiles:\n- schedulerName: berth\n  percentageOfNodesToScore: 90\n", toScore: 90},
		{name: "Berth is not under bind", old: "    bind:\n      enabled:\n      - name: Berth\n", flaw: "Berth is not the first under bind, so that DefaultBinder binds"},
		{name: "another preemption", old: "      - name: DefaultPreemption", new: "      - name: NodeResourcesBalancedAllocation", flaw: "DefaultPreemption is not disabled"},
		{name: "a point is off", old: "    bind:\n", new: "    filter: {disabled: [{name: Berth}]}\n    bind:\n", flaw: "Berth is off under filter"},
		{name: "another name", old: "schedulerName: berth", new: "schedulerName: other", flaw: "no profile is named berth"},
		{name: "another Lease", old: "resourceName: berth-scheduler", new: "resourceName: other", flaw: "leaderElection names the Lease berth-system/other"},
		{name: "a misspelt argument", old: "headroom: 256Mi", new: "headrom: 256Mi", err: "headrom"},
		{name: "an argument out of range", old: "staleAfter: 60s", new: "staleAfter: 5s", err: "at least 15s"},
		{name: "a Lease that is too short for a Binding", old: "leaseDuration: 15s", new: "leaseDuration: 8s", err: "bindTimeout of 4s is too long"},
		{name: "no configuration", old: "kind: KubeSchedulerConfiguration", new: "kind: Other", err: "Other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := strings.Replace(string(text), tt.old, tt.new, 1)
			if tt.old != "" && config == string(text) {
				t.Fatalf("the shipped configuration has no %q", tt.old)
			}
			c, err := CheckConfig(t.Context(), []byte(config))
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case tt.flaw == "" && len(c.Flaws) > 0, tt.flaw != "" && !slices.ContainsFunc(c.Flaws, func(f string) bool { return strings.Contains(f, tt.flaw) }):
				t.Errorf("flaws %q, want one with %q", c.Flaws, tt.flaw)
			case !c.Elects || c.NodesToScore != tt.toScore || len(c.Flaws) == 0 && c.Args.Headroom.String() != "256Mi":
				t.Errorf("%+v", c)
			}
		})
	}
}
