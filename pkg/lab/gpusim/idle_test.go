// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpusim

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-base/metrics"
	"k8s.io/utils/clock"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/gpustate"
)

// scheduler is what a scheduler knows of a node by its agent's reports.
type scheduler struct {
	store  *gpustate.Store
	report *berthv1alpha1.GPUNode
}

func (s *scheduler) Report(context.Context) (*berthv1alpha1.GPUNode, error) {
	if s.report == nil {
		return nil, apierrors.NewNotFound(berthv1alpha1.GroupVersion.WithResource("gpunodes").GroupResource(), "n1")
	}
	return s.report.DeepCopy(), nil
}

func (s *scheduler) Version(ctx context.Context, _ string) (string, error) {
	_, err := s.Report(ctx)
	return "1", err
}

func (s *scheduler) Apply(_ context.Context, status *berthv1alpha1.GPUNodeStatus) (string, error) {
	s.report = &berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: *status.DeepCopy()}
	s.store.Apply(s.report, true)
	return "1", nil
}

func (s *scheduler) RenewLease(context.Context, time.Time) error { return nil }

// TestIdleTimesOfAgentAndScheduler: what the agent's metric says of pods agrees with its report, and with the scheduler, which
// counts by its own clock from the reports that it sees. Only after a start of the agent the metric says less.
func TestIdleTimesOfAgentAndScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const reportDelay = agent.DefaultReadInterval + agent.DefaultReportInterval
		spec, err := ParseSpec(map[string]string{AnnotationGPUs: "2xH100-80"})
		if err != nil {
			t.Fatal(err)
		}
		hardware := NewHardware("n1", spec, clock.RealClock{})
		s := &scheduler{store: gpustate.NewStore(alloc.Bytes{}, clock.RealClock{})}
		random := rand.New(rand.NewPCG(18, 5))
		pods := []types.UID{"a", "b", "both"}
		devices := map[types.UID][]int{"a": {0}, "b": {1}, "both": {0, 1}}
		compared, idled := 0, 0
		for range 5 { // an agent, and those that are started after it
			a, err := agent.New(agent.Options{NodeName: "n1", Reader: hardware, Attributor: hardware, Names: hardware, Client: s})
			if err != nil {
				t.Fatal(err)
			}
			registry := metrics.NewKubeRegistry()
			registry.CustomMustRegister(a.Collector())
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- a.Run(ctx) }()
			started := time.Now()
			for range 30 {
				uid := pods[random.IntN(len(pods))]
				use := &Use{Pod: types.NamespacedName{Namespace: "ns", Name: string(uid)}, Memory: map[string]uint64{}, Started: started.Add(-time.Hour)}
				for _, i := range devices[uid] {
					use.Memory[UUID("n1", i)] = 10 * gib
				}
				switch random.IntN(4) {
				case 0:
					use.Active = true
				case 1:
					use.ActivityUnknown = true
				}
				hardware.Run(uid, use)
				// Long enough for the report to have everything that happened.
				time.Sleep(agent.DefaultActivityHold + reportDelay + time.Duration(random.IntN(60))*time.Second)
				synctest.Wait()
				report, _ := s.store.Report("n1", time.Hour)
				metric := idleSeconds(t, registry)
				for _, uid := range pods {
					got, measured := metric[string(uid)]
					since, idle := report.IdleSince(uid)
					want := time.Since(since)
					compared++
					switch {
					case idle && !measured:
						t.Errorf("pod %s has no idle time, the scheduler says %s", uid, want)
					case !idle && measured && got != 0:
						t.Errorf("pod %s is idle for %s, by the scheduler it is not", uid, got)
					case idle && time.Since(started) > want+reportDelay && (got < want-reportDelay || got > want+reportDelay):
						t.Errorf("pod %s is idle for %s, by the scheduler for %s", uid, got, want)
					case idle && got > min(want+reportDelay, time.Since(started)):
						t.Errorf("pod %s is idle for %s, by the scheduler for %s, and the agent runs for %s", uid, got, want, time.Since(started))
					case idle && got > 0:
						idled++
					}
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		if compared < 400 || idled < 100 {
			t.Errorf("%d times were compared, of which %d were of idle pods", compared, idled)
		}
	})
}

// idleSeconds reads the agent's metric, by pod.
func idleSeconds(t *testing.T, registry metrics.KubeRegistry) map[string]time.Duration {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	idle := map[string]time.Duration{}
	for _, f := range families {
		if f.GetName() != "berth_pod_gpu_idle_seconds" {
			continue
		}
		for _, m := range f.Metric {
			idle[labelOf(m, "pod")] = time.Duration(m.Gauge.GetValue() * float64(time.Second))
		}
	}
	return idle
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
