// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command llm-mix writes a trace of pods that serve language models, and of nodes for them, in the columns of Alibaba's traces
// (openb): for kubectl berth replay. docs/performance.md says which public figures it is made of, and what is assumed.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	seed := flag.Uint64("seed", 1, "what the choices of models come of")
	gpus := flag.Int("gpus", 2000, "about how many GPUs there are")
	cold := flag.Float64("cold", coldOfMarket, "which part of the GPUs serves models that are seldom asked, one replica each")
	out := flag.String("out", ".", "folder for nodes.csv and pods.csv")
	flag.Parse()
	if err := write(*seed, *gpus, *cold, *out); err != nil {
		fmt.Fprintln(os.Stderr, "llm-mix:", err)
		os.Exit(1)
	}
}

func write(seed uint64, gpus int, cold float64, folder string) error {
	if gpus < 1 || cold < 0 || cold > 1 {
		return fmt.Errorf("-gpus=%d -cold=%v: use at least one GPU, and a part from 0 to 1", gpus, cold)
	}
	models, err := readModels()
	if err != nil {
		return err
	}
	pods := mix(models, gpus, cold, seed)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "pods.csv"), podsCSV(pods), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "nodes.csv"), nodesCSV(pods), 0o644)
}
