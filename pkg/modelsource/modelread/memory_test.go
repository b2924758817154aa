// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelread_test

import (
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-dev/berth/pkg/modelsource"
	"github.com/berth-dev/berth/pkg/modelsource/modelread"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

// peakDuring returns the most memory that the process had from the system, apart from what it gave back, while do ran.
func peakDuring(do func()) uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for tick := time.NewTicker(2 * time.Millisecond); ; {
			metrics.Read(samples)
			most = max(most, samples[0].Value.Uint64()-samples[1].Value.Uint64())
			select {
			case <-stop:
				tick.Stop()
				peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	do()
	close(stop)
	return <-peak
}

// TestHostileModelsAtOnceStayWithinTheLimit is attack 3: as many hostile models as the controller reads at once, of every
// kind, in a process with the soft limit that the controller gives itself under 512Mi.
func TestHostileModelsAtOnceStayWithinTheLimit(t *testing.T) {
	const limit = 512 << 20
	files := map[string]modeltest.File{}
	for folder, inside := range modeltest.Hostile() {
		for name, file := range inside {
			files["/"+folder+"/"+name] = file
		}
	}
	server := modeltest.NewServer(t, files)
	policy, err := modelsource.NewPolicy([]string{server.URL}, []string{strings.Replace(server.URL, "https://", "", 1)}, []string{"127.0.0.0/8"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := modelsource.NewResolver(modelsource.Config{
		HuggingFaceEndpoint: server.URL, Policy: policy, Backoff: time.Millisecond,
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	// What the test itself holds is not the controller's.
	runtime.GC()
	debug.FreeOSMemory()
	own := peakDuring(func() {})
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit*85/100 + int64(own)))

	var read atomic.Int32
	peak := peakDuring(func() {
		var workers sync.WaitGroup
		for worker := range 8 {
			workers.Go(func() {
				for i := range 2 {
					folder := []string{"shards", "keys", "patterns", "values"}[(worker+i)%4]
					if i == 0 {
						folder = []string{"shards", "keys"}[worker%2] // the same at once
					}
					s, err := resolver.Resolve(t.Context(), server.URL+"/"+folder+"/")
					if err != nil {
						continue // refused, or told to come back
					}
					if _, err := modelread.Read(t.Context(), s, nil); err == nil {
						read.Add(1)
					}
					s.Close()
				}
			})
		}
		workers.Wait()
	})
	if read.Load() == 0 {
		t.Error("no large model was read")
	}
	t.Logf("%d MiB of its own, %d MiB at most", own>>20, peak>>20)
	if peak > limit+own {
		t.Errorf("%d MiB at most, of which the test itself has %d; want less than %d more", peak>>20, own>>20, limit>>20)
	}
}
