// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"path/filepath"
	"slices"
	"testing"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	"k8s.io/kubernetes/pkg/scheduler"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/profile"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// TestShippedProfile builds the profile of the shipped configuration as kube-scheduler does. DefaultBinder would bind
// without an allocation if it came first, and DefaultPreemption evict without a look at GPU memory.
func TestShippedProfile(t *testing.T) {
	config, err := options.LoadConfigFromFile(klog.Background(), filepath.Join("..", "..", "manifests", "scheduler", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	nobody := &rest.Config{Host: "http://127.0.0.1:1"} // no API is needed to build a profile
	client, err := kubernetes.NewForConfig(nobody)
	if err != nil {
		t.Fatal(err)
	}
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	sched, err := scheduler.New(t.Context(), client, informers.NewSharedInformerFactory(client, 0), nil,
		profile.NewRecorderFactory(broadcaster),
		scheduler.WithProfiles(config.Profiles...),
		scheduler.WithComponentConfigVersion(config.TypeMeta.APIVersion),
		scheduler.WithKubeConfig(nobody),
		scheduler.WithFrameworkOutOfTreeRegistry(frameworkruntime.Registry{Name: New}),
	)
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

// TestShippedBindTimeout: a Binding of a scheduler that lost its lease ends before the next leader begins.
func TestShippedBindTimeout(t *testing.T) {
	config, err := options.LoadConfigFromFile(klog.Background(), filepath.Join("..", "..", "manifests", "scheduler", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pc := range config.Profiles[0].PluginConfig {
		if pc.Name != Name {
			continue
		}
		args, err := decodeArgs(pc.Args)
		if err != nil {
			t.Fatal(err)
		}
		le := config.LeaderElection
		if gap := le.LeaseDuration.Duration - le.RenewDeadline.Duration; args.BindTimeout.Duration >= gap {
			t.Errorf("bindTimeout %s is not shorter than leaseDuration − renewDeadline = %s", args.BindTimeout.Duration, gap)
		}
		return
	}
	t.Fatalf("the configuration has no arguments of %s", Name)
}
