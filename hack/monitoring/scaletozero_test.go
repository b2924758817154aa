// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
)

var queryOfExample = regexp.MustCompile(`(?m)^ +query: \|\n((?: {8}.*\n)+)`)

// busyQuery returns the query of the example of scaling to zero. The page shows the same.
func busyQuery(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "manifests", "examples", "keda", "chat.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	match := queryOfExample.FindSubmatch(text)
	if match == nil {
		t.Fatal("the example has no query")
	}
	query := strings.ReplaceAll(string(match[1]), "\n        ", "\n")
	query = strings.TrimPrefix(query, "        ")
	page, err := os.ReadFile(filepath.Join(root, "docs", "scale-to-zero.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```promql\n"+query+"```\n") {
		t.Errorf("docs/scale-to-zero.md does not show the query of the example:\n%s", query)
	}
	return query
}

// TestBusyQuery: 1 keeps a Deployment, 0 lets it go, and nothing leaves it alone. Whatever is not known keeps it.
func TestBusyQuery(t *testing.T) {
	const (
		deployment = `kube_deployment_spec_replicas{namespace="default",deployment="chat",job="kube-state-metrics"} 1x10` + "\n"
		// until is 10 minutes, at the end of which the query is asked.
		idle = `berth_pod_gpu_idle_seconds{namespace="default",pod="chat-5d5f-aaaaa",node="n"} 0+100x10` + "\n"
	)
	running := func(pod string) string {
		return `kube_pod_status_phase{namespace="default",phase="Running",pod="` + pod + `"} 1x10` + "\n" +
			`kube_pod_status_phase{namespace="default",phase="Pending",pod="` + pod + `"} 0x10` + "\n" +
			`kube_pod_status_ready{namespace="default",condition="true",pod="` + pod + `"} 1x10` + "\n" +
			`kube_pod_status_ready{namespace="default",condition="false",pod="` + pod + `"} 0x10` + "\n"
	}
	first, second := running("chat-5d5f-aaaaa"), running("chat-5d5f-bbbbb")
	nothing := -1.0
	for name, tc := range map[string]struct {
		series string
		want   float64
	}{
		"an idle pod lets go": {deployment + first + idle, 0},
		"a pod that was idle for too short a time keeps": {
			deployment + first + `berth_pod_gpu_idle_seconds{namespace="default",pod="chat-5d5f-aaaaa"} 0+50x10`, 1,
		},
		"a pod that computes again keeps": {
			deployment + first + `berth_pod_gpu_idle_seconds{namespace="default",pod="chat-5d5f-aaaaa"} 700x9 0`, 1,
		},
		"a pod whose activity is not measured keeps": {deployment + first, 1},
		"a pod whose agent is silent keeps":          {deployment + first + `berth_pod_gpu_idle_seconds{namespace="default",pod="chat-5d5f-aaaaa"} 700x7 stale _x2`, 1},
		"a pod that has just ended lets go, as long as only Berth knows it": {
			deployment + first + `berth_pod_gpu_idle_seconds{namespace="default",pod="chat-5d5f-aaaaa"} 700x9 stale`, 0,
		},
		"of two pods one computes": {
			deployment + first + second + idle + `berth_pod_gpu_idle_seconds{namespace="default",pod="chat-5d5f-bbbbb"} 0x10`, 1,
		},
		"of two pods one is not measured": {deployment + first + second + idle, 1},
		"of two pods both are idle": {
			deployment + first + second + idle + `berth_pod_gpu_idle_seconds{namespace="default",pod="chat-5d5f-bbbbb"} 700x10`, 0,
		},
		"a pod that loads keeps, though it computes nothing": {
			deployment + strings.NewReplacer(`"true",pod="chat-5d5f-aaaaa"} 1x10`, `"true",pod="chat-5d5f-aaaaa"} 0x10`).Replace(first) + idle, 1,
		},
		"a pod that waits for a place keeps": {
			deployment + `kube_pod_status_phase{namespace="default",phase="Pending",pod="chat-5d5f-aaaaa"} 1x10`, 1,
		},
		"a pod that was evicted long ago does not keep": {
			deployment + first + idle + `kube_pod_status_phase{namespace="default",phase="Failed",pod="chat-5d5f-ccccc"} 1x10`, 0,
		},
		"the pods of others do not keep": {
			deployment + first + idle + running("chat-v2-5d5f-aaaaa") + running("other-5d5f-aaaaa") +
				strings.ReplaceAll(running("chat-5d5f-zzzzz"), "default", "elsewhere"), 0,
		},
		"idle pods of others let nobody go": {
			deployment + first + `berth_pod_gpu_idle_seconds{namespace="default",pod="chat-v2-5d5f-aaaaa"} 700x10` + "\n" +
				`berth_pod_gpu_idle_seconds{namespace="elsewhere",pod="chat-5d5f-aaaaa"} 700x10`, 1,
		},
		"what is scaled to zero is woken by nothing of its own": {strings.ReplaceAll(deployment, " 1x", " 0x") + first, 0},
		"without pods there is nothing to keep":                 {deployment, 0},
		"two kube-state-metrics tell the same": {
			deployment + first + idle + strings.ReplaceAll(deployment+first, `namespace=`, `instance="b",namespace=`), 0,
		},
		"two agents of one node, of which one started again, are not believed": {
			deployment + first + idle + `berth_pod_gpu_idle_seconds{namespace="default",pod="chat-5d5f-aaaaa",instance="b"} 0x10`, 1,
		},
		"without kube-state-metrics nothing is said": {idle, nothing},
		"without anything nothing is said":           {"", nothing},
	} {
		t.Run(name, func(t *testing.T) {
			engine := promqltest.NewTestEngine(t, false, 0, 1_000_000)
			storage := promqltest.LoadedStorage(t, "load 1m\n  "+strings.ReplaceAll(strings.TrimSpace(tc.series), "\n", "\n  ")+"\n")
			run, err := engine.NewInstantQuery(t.Context(), storage, nil, busyQuery(t), time.Unix(0, 0).Add(10*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			defer run.Close()
			vector, err := run.Exec(t.Context()).Vector()
			if err != nil {
				t.Fatal(err)
			}
			// KEDA takes one value, and no more.
			if len(vector) > 1 || (len(vector) == 0) != (tc.want == nothing) || len(vector) == 1 && vector[0].F != tc.want {
				t.Errorf("the query returns %v, want %v", vector, tc.want)
			}
		})
	}
}
