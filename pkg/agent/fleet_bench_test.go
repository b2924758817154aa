// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/klog/v2"
)

// flutteringReader is a full node whose memory goes up and down by less than the quantum.
type flutteringReader struct{ reading *Reading }

func (r flutteringReader) Read(context.Context) (*Reading, error) {
	copied := *r.reading
	copied.Devices = append([]Device(nil), r.reading.Devices...)
	for i := range copied.Devices {
		d := &copied.Devices[i]
		d.Memory.Used += rand.Uint64N(60 * mib)
		d.Processes = append([]Process(nil), d.Processes...)
		for j := range d.Processes {
			d.Processes[j].Active = true
		}
	}
	return &copied, nil
}

func (flutteringReader) Close() error { return nil }

// BenchmarkThousandAgents runs the agents of 1000 nodes of 8 GPUs and 64 pods in one process, whose memory flutters and
// whose pods compute: the writes a second beside the Leases, the renewals a second, and the share of a core.
//
//	go test ./pkg/agent -run '^$' -bench ThousandAgents -benchtime 1x
func BenchmarkThousandAgents(b *testing.B) {
	const nodes, settle, measure = 1000, 15 * time.Second, 30 * time.Second
	ctx, cancel := context.WithCancel(klog.NewContext(b.Context(), klog.LoggerWithName(klog.Background(), "bench")))
	var agents sync.WaitGroup
	defer agents.Wait()
	defer cancel()
	client := make([]*fakeClient, nodes)
	for i := range nodes {
		reading, o := fullNode()
		client[i] = &fakeClient{}
		a, err := New(Options{NodeName: "n", Reader: flutteringReader{reading}, Attributor: fakeAttributor(o.pods), Client: client[i]})
		if err != nil {
			b.Fatal(err)
		}
		agents.Go(func() { _ = a.Run(ctx) })
	}
	counted := func() (writes, renewals int) {
		for _, c := range client {
			writes += len(c.all())
			renewals += len(c.renewals())
		}
		return writes, renewals
	}
	time.Sleep(settle)
	for b.Loop() {
		cpu := processTime(b)
		writes, renewals := counted()
		time.Sleep(measure)
		writesAfter, renewalsAfter := counted()
		b.ReportMetric(float64(writesAfter-writes)/measure.Seconds(), "writes/s")
		b.ReportMetric(float64(renewalsAfter-renewals)/measure.Seconds(), "renewals/s")
		b.ReportMetric(100*(processTime(b)-cpu).Seconds()/measure.Seconds(), "%core")
		b.ReportMetric(0, "ns/op")
	}
}

func processTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
