// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	bt "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/berthclient"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/gpustate"
	"github.com/berth-dev/berth/pkg/plugin/cycle"
	"github.com/berth-dev/berth/pkg/plugin/feed"
	"github.com/berth-dev/berth/pkg/plugin/words"
)

// reportServer serves GPUNodes: a list as of the start, and a watch of what a test sends.
type reportServer struct {
	*httptest.Server
	initial []string
	later   chan string
	lists   chan struct{}
}

func newReportServer(t *testing.T, initial ...string) *reportServer {
	s := &reportServer{initial: initial, later: make(chan string), lists: make(chan struct{}, 100)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		query := r.URL.Query()
		if query.Get("watch") == "" {
			s.lists <- struct{}{}
			_, _ = fmt.Fprintf(w, `{"kind":"GPUNodeList","apiVersion":"berth.dev/v1alpha1","metadata":{"resourceVersion":"1"},"items":[%s]}`,
				strings.Join(s.initial, ","))
			return
		}
		if query.Get("sendInitialEvents") == "true" {
			s.lists <- struct{}{}
			for _, object := range s.initial {
				_, _ = fmt.Fprintf(w, `{"type":"ADDED","object":%s}`+"\n", object)
			}
			_, _ = fmt.Fprintln(w, `{"type":"BOOKMARK","object":{"kind":"GPUNode","apiVersion":"berth.dev/v1alpha1","metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`)
		}
		w.(http.Flusher).Flush()
		for {
			select {
			case object := <-s.later:
				_, _ = fmt.Fprintf(w, `{"type":"MODIFIED","object":%s}`+"\n", object)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	return s
}

// reported is a GPUNode with one GPU of its own.
func reported(node, version, total, observed string) string {
	return fmt.Sprintf(`{"kind":"GPUNode","apiVersion":"berth.dev/v1alpha1","metadata":{"name":%q,"resourceVersion":%q,"uid":"uid-%s"},`+
		`"status":{"observedTime":%q,"devices":[{"uuid":"GPU-%s","memory":{"total":%q}}]}}`, node, version, node, observed, node, total)
}

// The attack is that one node's token blinds the scheduler for all nodes: what it writes is accepted by the apiserver, and
// Go cannot decode it. Each of the statuses ended the watch of all GPUNodes, or kept a processor busy for hours.
func TestOneNodesTokenDoesNotBlindTheScheduler(t *testing.T) {
	const good, lower = "2026-01-01T00:00:00Z", "2026-01-01t00:00:00z"
	for name, bad := range map[string]func(version string) string{
		"a time in lower case":          func(v string) string { return reported("bad", v, "80Gi", lower) },
		"a time zone that is none":      func(v string) string { return reported("bad", v, "80Gi", "2026-01-01T00:00:00+99:99") },
		"a quantity that takes hours":   func(v string) string { return reported("bad", v, "1e-2000000000", good) },
		"an exponent that is no number": func(v string) string { return reported("bad", v, "1e1.5", good) },
		"an exponent without end":       func(v string) string { return reported("bad", v, "1e99999999999999999999", good) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.pl.feed.Synced = nil
			f.node(bt.MakeNode("bad"), bt.MakeGPUNode("bad"))
			f.node(bt.MakeNode("good"), bt.MakeGPUNode("good"))
			s := newReportServer(t, bad("1"), reported("good", "1", "80Gi", good))
			client, err := berthclient.NewReader(&rest.Config{Host: s.URL})
			if err != nil {
				t.Fatal(err)
			}
			informer := feed.NewInformer(client, "gpunodes", "", &gpunode.Object{})
			if err := f.pl.feed.WatchReports(informer); err != nil {
				t.Fatal(err)
			}
			go informer.RunWithContext(f.ctx)
			reason := func(node string) alloc.Reason {
				ni := f.nodeInfo(node)
				return f.pl.tracker.Viewer().View(ni.Node(), cycle.PodsOf(ni), &gpustate.Query{}).Reason
			}
			is := func(node string, want alloc.Reason) func() bool { return func() bool { return reason(node) == want } }

			f.eventually("the first list", f.pl.feed.Synced[0])
			if bad, good := reason("bad"), reason("good"); bad != gpustate.ReasonUnreadableReport || good != "" {
				t.Errorf("after the first list: the bad node %q, the good one %q", bad, good)
			}
			s.later <- reported("bad", "2", "80Gi", good)
			f.eventually("reading a report that can be read again", is("bad", ""))
			s.later <- bad("3")
			f.eventually("noticing a report that cannot be read", is("bad", gpustate.ReasonUnreadableReport))
			s.later <- bad("4")
			s.later <- reported("good", "5", "40Gi", good)
			f.eventually("reading the other node's next report", func() bool { return f.free("good")[0] == 40 })

			if n := len(s.lists); n != 1 {
				t.Errorf("GPUNodes were listed %d times: the watch broke", n)
			}
			told := 0
			for len(f.events.Events) > 0 {
				if e := <-f.events.Events; strings.Contains(e, words.EventUnreadable) {
					told++
				}
			}
			if told != 2 {
				t.Errorf("told %d times, want once for each time that it became unreadable", told)
			}
		})
	}
}
