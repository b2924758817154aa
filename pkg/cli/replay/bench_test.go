// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/replay"
)

// BenchmarkProduction replays one seed of the shortest list of Alibaba's trace, which BERTH_DATA has, by each strategy of Berth.
func BenchmarkProduction(b *testing.B) {
	dir := os.Getenv("BERTH_DATA")
	if dir == "" {
		b.Skip("BERTH_DATA names no data")
	}
	trace := &replay.Trace{}
	for name, read := range map[string]func(string, io.Reader) error{
		"openb_node_list_gpu_node.csv": func(name string, r io.Reader) (err error) { trace.Nodes, err = replay.ReadNodes(name, r); return err },
		"openb_pod_list_multigpu50.csv": func(name string, r io.Reader) (err error) {
			trace.Pods, trace.HasTimes, err = replay.ReadPods(name, r)
			return err
		},
	} {
		file, err := os.Open(filepath.Join(dir, "traces", name))
		if err != nil {
			b.Fatal(err)
		}
		if err := read(name, file); err != nil {
			b.Fatal(err)
		}
		file.Close()
	}
	for _, strategy := range alloc.Strategies {
		b.Run(string(strategy), func(b *testing.B) {
			for b.Loop() {
				q := &Question{Trace: trace, Strategies: []string{string(strategy)}, Seeds: 1, Percent: 130, Parallel: 1}
				if _, err := Ask(b.Context(), q, &Progress{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
