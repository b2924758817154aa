// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	"k8s.io/kubernetes/pkg/scheduler"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	schedulerconfigv1 "k8s.io/kubernetes/pkg/scheduler/apis/config/v1"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/profile"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/policies"
)

// TestShippedProfile builds the profile of the shipped configuration as kube-scheduler does. DefaultBinder would bind
// without an allocation if it came first, and DefaultPreemption evict without a look at GPU memory.
func TestShippedProfile(t *testing.T) {
	sched, err := newScheduler(t, shippedConfig(t).Profiles)
	if err != nil {
		t.Fatal(err)
	}
	p := sched.Profiles[berthv1alpha1.SchedulerName]
	if p == nil || len(sched.Profiles) != 1 {
		t.Fatalf("profiles: %v", sched.Profiles)
	}
	plugins := p.ListPlugins()
	names := func(set schedulerconfig.PluginSet) (out []string) {
		for _, plugin := range set.Enabled {
			out = append(out, plugin.Name)
		}
		return out
	}
	if got := names(plugins.Bind); !slices.Equal(got, []string{Name, "DefaultBinder"}) {
		t.Errorf("Bind: %v, want %s first, and the default for plain pods", got, Name)
	}
	if got := names(plugins.PostFilter); !slices.Contains(got, Name) || slices.Contains(got, "DefaultPreemption") {
		t.Errorf("PostFilter: %v, want %s in the place of DefaultPreemption", got, Name)
	}
	for point, set := range map[string]schedulerconfig.PluginSet{
		"PreEnqueue": plugins.PreEnqueue, "PreFilter": plugins.PreFilter, "Filter": plugins.Filter, "PreScore": plugins.PreScore,
		"Score": plugins.Score, "Reserve": plugins.Reserve,
	} {
		if !slices.Contains(names(set), Name) {
			t.Errorf("%s lacks %s: %v", point, Name, names(set))
		}
	}
	// One point of Berth's score outweighs all others together.
	var ours, others int64
	for _, plugin := range plugins.Score.Enabled {
		if plugin.Name == Name {
			ours = int64(plugin.Weight)
		} else {
			others += int64(plugin.Weight) * 100
		}
	}
	if ours <= others {
		t.Errorf("one point of %s weighs %d, all points of the others %d", Name, ours, others)
	}
}

// shippedConfig returns the shipped configuration.
func shippedConfig(t *testing.T) *schedulerconfig.KubeSchedulerConfiguration {
	t.Helper()
	config, err := options.LoadConfigFromFile(klog.Background(), filepath.Join("..", "..", "manifests", "scheduler", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// newScheduler builds the profiles as kube-scheduler does.
func newScheduler(t *testing.T, profiles []schedulerconfig.KubeSchedulerProfile) (*scheduler.Scheduler, error) {
	t.Helper()
	nobody := &rest.Config{Host: "http://127.0.0.1:1"} // no API is needed to build a profile
	client, err := kubernetes.NewForConfig(nobody)
	if err != nil {
		t.Fatal(err)
	}
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	return scheduler.New(t.Context(), client, informers.NewSharedInformerFactory(client, 0), nil,
		profile.NewRecorderFactory(broadcaster),
		scheduler.WithProfiles(profiles...),
		scheduler.WithComponentConfigVersion(schedulerconfigv1.SchemeGroupVersion.String()),
		scheduler.WithKubeConfig(nobody),
		scheduler.WithFrameworkOutOfTreeRegistry(frameworkruntime.Registry{Name: NewFor(alone(), &policies.State{})}),
	)
}

// TestTwoProfiles: two profiles with the plugin would keep books apart.
func TestTwoProfiles(t *testing.T) {
	profiles := shippedConfig(t).Profiles
	second := *profiles[0].DeepCopy()
	second.SchedulerName = "other"
	_, err := newScheduler(t, append(profiles, second))
	if err == nil || !strings.Contains(err.Error(), "only one profile can have the plugin Berth, and that of schedulerName berth has it: disable it in that of other") {
		t.Errorf("got %v", err)
	}
	plain := *second.DeepCopy()
	plain.SchedulerName = "plain"
	plain.PluginConfig = slices.DeleteFunc(plain.PluginConfig, func(c schedulerconfig.PluginConfig) bool { return c.Name == Name })
	plain.Plugins.MultiPoint.Enabled = slices.DeleteFunc(plain.Plugins.MultiPoint.Enabled, func(p schedulerconfig.Plugin) bool { return p.Name == Name })
	plain.Plugins.Bind = schedulerconfig.PluginSet{}
	if _, err := newScheduler(t, append(profiles, plain)); err != nil {
		t.Errorf("beside a profile without the plugin: %v", err)
	}
}

// TestShippedTimes: the shipped bindTimeout suits the shipped leader election.
func TestShippedTimes(t *testing.T) {
	shipped := shippedConfig(t)
	le := shipped.LeaderElection
	if err := config.CheckTimes(shipped.Profiles, le.LeaseDuration.Duration, le.RetryPeriod.Duration); err != nil {
		t.Error(err)
	}
	if err := config.CheckTimes(shipped.Profiles, 8*time.Second, le.RetryPeriod.Duration); err == nil {
		t.Error("taken with a leaseDuration of 8s")
	}
}
