// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/modelfile"
	"github.com/berth-dev/berth/pkg/gpumodel"
)

// TestTheMemoryIsEstimated: the last column of models.csv is what vLLM needs, by the models' configurations.
func TestTheMemoryIsEstimated(t *testing.T) {
	folder := os.Getenv("BERTH_DATA")
	if folder == "" {
		t.Skip("BERTH_DATA names no folder with model-configs")
	}
	models, err := parse(table, false)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(table), "\n"), "\n")
	for i := range models {
		m := &models[i]
		gpu, err := gpumodel.Find(m.gpu)
		if err != nil {
			t.Fatal(err)
		}
		read, err := modelfile.ReadPath(filepath.Join(folder, "model-configs", m.config+"_config.json"))
		if err != nil {
			t.Fatal(err)
		}
		result, err := estimator.Estimate(read, estimator.Settings{
			Runtime: estimator.RuntimeVLLM, ContextLength: m.context, Parallel: m.parallel, UtilizationHandedOver: true,
		}, []int{m.gpus}, estimator.DeviceInfo{Name: gpu.Name, Total: int64(gpu.Total)})
		if err != nil || len(result.Options) != 1 || !result.Options[0].Feasible {
			t.Errorf("%s: %v, %+v", m.name, err, result)
			continue
		}
		mib := (result.Options[0].Devices[0].Total + 1<<20 - 1) >> 20
		line := lines[i+1]
		lines[i+1] = line[:strings.LastIndex(line, ",")+1] + fmt.Sprint(mib)
		if mib > m.room() {
			t.Errorf("%s: %d MiB, of %d", m.name, mib, m.room())
		}
	}
	now := strings.Join(lines, "\n") + "\n"
	if os.Getenv("BERTH_UPDATE") != "" {
		if err := os.WriteFile("models.csv", []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(table), now); diff != "" {
		t.Errorf("(-models.csv +estimated; BERTH_UPDATE=1 writes it)\n%s", diff)
	}
}

// TestSharesOfGPUs: each group has the part of the GPUs that is published for it, and a seed gives the same pods.
func TestSharesOfGPUs(t *testing.T) {
	models, err := readModels()
	if err != nil {
		t.Fatal(err)
	}
	const gpus = 2000
	pods := mix(models, gpus, coldOfMarket, 1)
	has, shares := map[string]float64{}, shares(coldOfMarket)
	for _, m := range pods {
		has[m.group] += float64(m.gpus) * float64(m.milli()) / whole / gpus
	}
	sum := 0.0
	for _, group := range groups {
		sum += shares[group]
		if math.Abs(has[group]-shares[group]) > 0.005 {
			t.Errorf("%s has %.3f of the GPUs, want %.3f", group, has[group], shares[group])
		}
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("the shares add up to %v", sum)
	}
	if !bytes.Equal(podsCSV(pods), podsCSV(mix(models, gpus, coldOfMarket, 1))) || bytes.Equal(podsCSV(pods), podsCSV(mix(models, gpus, coldOfMarket, 2))) {
		t.Error("pods do not come of the seed")
	}
	if nodes := bytes.Count(nodesCSV(pods), []byte("\n")) - 1; nodes < gpus/8 || nodes > gpus/4 {
		t.Errorf("%d nodes", nodes)
	}
}
