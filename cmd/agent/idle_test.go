// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// BenchmarkIdleAgent measures a real agent process whose 8 GPUs and 64 processes do nothing but compute: the share of a
// core that it takes, in percent, and its memory.
//
//	go test ./cmd/agent -run '^$' -bench IdleAgent -benchtime 1x
func BenchmarkIdleAgent(b *testing.B) {
	const settle, measure = 3 * time.Second, 20 * time.Second
	m := newMachine(b)
	for i := range 64 {
		m.use(i%8, 100+i, i, gib)
	}
	m.apply()
	m.start()
	time.Sleep(settle)
	var used time.Duration
	for range b.N {
		before := cpuTime(b, m.agent.Process.Pid)
		time.Sleep(measure)
		used += cpuTime(b, m.agent.Process.Pid) - before
	}
	b.ReportMetric(100*used.Seconds()/(float64(b.N)*measure.Seconds()), "%core")
	b.ReportMetric(float64(residentBytes(b, m.agent.Process.Pid))/(1<<20), "MiB")
	b.ReportMetric(float64(m.server.Size()), "report-bytes")
	b.ReportMetric(0, "ns/op")
}

// cpuTime returns fields 14 and 15 of /proc/<pid>/stat, which count hundredths of a second on Linux.
func cpuTime(t testing.TB, pid int) time.Duration {
	fields := bytes.Fields(readProc(t, pid, "stat"))
	var ticks int
	for _, i := range []int{13, 14} {
		n, err := strconv.Atoi(string(fields[i]))
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func residentBytes(t testing.TB, pid int) int {
	fields := bytes.Fields(readProc(t, pid, "statm"))
	pages, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func readProc(t testing.TB, pid int, file string) []byte {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
