// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	schedulerserverconfig "k8s.io/kubernetes/cmd/kube-scheduler/app/config"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"

	"github.com/berth-dev/berth/pkg/leader"
	"github.com/berth-dev/berth/pkg/plugin"
)

// TestFlags: the command has every flag of kube-scheduler's, with the same default, and no other.
func TestFlags(t *testing.T) {
	flags := func(cmd *cobra.Command) map[string]string {
		all := map[string]string{}
		cmd.Flags().VisitAll(func(f *pflag.Flag) { all[f.Name] = f.DefValue + " " + f.NoOptDefVal })
		return all
	}
	want, got := flags(app.NewSchedulerCommand()), flags(newCommand())
	if diff := cmp.Diff(want, got); diff != "" || len(got) < 50 {
		t.Errorf("%d flags (-kube-scheduler +this):\n%s", len(got), diff)
	}
}

func TestTakesNoArguments(t *testing.T) {
	cmd := newCommand()
	if err := cmd.Args(cmd, []string{"config.yaml"}); err == nil {
		t.Error("an argument is taken for nothing")
	}
	if err := cmd.Args(cmd, []string{""}); err != nil {
		t.Error(err)
	}
}

// lock is a lock that anybody can have.
type lock struct{ resourcelock.Interface }

func (lock) Identity() string { return "me" }

func TestGuard(t *testing.T) {
	completed := func(election *leaderelection.LeaderElectionConfig) *schedulerserverconfig.CompletedConfig {
		c := &schedulerserverconfig.Config{LeaderElection: election}
		c.ComponentConfig.Profiles = []schedulerconfig.KubeSchedulerProfile{{
			Plugins:      &schedulerconfig.Plugins{MultiPoint: schedulerconfig.PluginSet{Enabled: []schedulerconfig.Plugin{{Name: plugin.Name}}}},
			PluginConfig: []schedulerconfig.PluginConfig{{Name: plugin.Name, Args: &runtime.Unknown{Raw: []byte(`{"bindTimeout":"4s"}`)}}},
		}}
		completed := c.Complete()
		return &completed
	}
	t.Run("without leader election the process leads", func(t *testing.T) {
		lead := leader.New()
		if err := guard(completed(nil), lead); err != nil || !lead.Leading() {
			t.Errorf("leads: %v, %v", lead.Leading(), err)
		}
	})
	t.Run("with leader election the lock is guarded, and nobody leads yet", func(t *testing.T) {
		lead, election := leader.New(), &leaderelection.LeaderElectionConfig{Lock: lock{}, LeaseDuration: 15 * time.Second, RetryPeriod: 2 * time.Second}
		if err := guard(completed(election), lead); err != nil || lead.Leading() || election.Lock == (lock{}) || lead.Identity() != "me" {
			t.Errorf("leads: %v, lock: %T, name: %q, %v", lead.Leading(), election.Lock, lead.Identity(), err)
		}
	})
	t.Run("a bindTimeout that is too long for the lease", func(t *testing.T) {
		election := &leaderelection.LeaderElectionConfig{Lock: lock{}, LeaseDuration: 6 * time.Second, RetryPeriod: time.Second}
		if err := guard(completed(election), leader.New()); err == nil {
			t.Error("taken")
		}
	})
}
