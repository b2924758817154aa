// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/berth-dev/berth/pkg/gpumodel"
)

//go:embed models.csv
var table []byte

// model is a way to serve a model on GPUs of one kind.
type model struct {
	name, config string
	// group says what it is popular by, and weight how often it is chosen among those of its group.
	group             string
	weight            float64
	gpu               string
	gpus              int
	context, parallel int64
	// mib is what it needs on each GPU, as estimated.
	mib int64
}

// whole is how many milli a GPU has.
const whole = 1000

// room is what can be booked of each GPU, in MiB: without what the driver keeps and the scheduler's headroom.
func (m *model) room() int64 {
	gpu, err := gpumodel.Find(m.gpu)
	if err != nil {
		return 0
	}
	return int64(gpu.Total-gpu.Reserved)>>20 - 256
}

// milli is the part of each of its GPUs, rounded up.
func (m *model) milli() int64 { return (m.mib*whole + m.room() - 1) / m.room() }

func readModels() ([]model, error) { return parse(table, true) }

// parse reads models; sized says that what they need is known.
func parse(text []byte, sized bool) (models []model, err error) {
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, row := range rows[1:] {
		m := model{name: row[0], config: row[1], group: row[2], gpu: row[4]}
		numbers := make([]float64, len(row))
		for _, i := range []int{3, 5, 6, 7, 8} {
			if numbers[i], err = strconv.ParseFloat(row[i], 64); err != nil {
				return nil, fmt.Errorf("models.csv: %s: %w", m.name, err)
			}
		}
		m.weight, m.gpus, m.context, m.parallel, m.mib = numbers[3], int(numbers[5]), int64(numbers[6]), int64(numbers[7]), int64(numbers[8])
		if sized && (m.mib < 1 || m.milli() > whole) {
			return nil, fmt.Errorf("models.csv: %s needs %d MiB on each GPU of model %s, which has room for %d", m.name, m.mib, m.gpu, m.room())
		}
		models = append(models, m)
	}
	return models, nil
}

// coldOfMarket is the part of the GPUs of a market of models that serves the 94.1 % of the models which get 1.35 % of the requests.
const coldOfMarket = 0.177

// shares are the parts of the GPUs that the groups have; docs/performance.md has where they are from.
func shares(cold float64) map[string]float64 {
	const (
		// Tokens, in trillions, of the open models that are used most.
		deepseek, qwen, llama = 14.37, 5.59, 3.96
		// Assumed: what embeds and ranks has a twentieth beside it.
		embedding = 0.05
	)
	popular := (1 - cold) / (deepseek + qwen + llama)
	out := map[string]float64{"deepseek": deepseek * popular, "qwen": qwen * popular, "llama": llama * popular, "cold": cold}
	for group := range out {
		out[group] *= 1 - embedding
	}
	out["embedding"] = embedding
	return out
}

// groups is their order.
var groups = []string{"deepseek", "qwen", "llama", "cold", "embedding"}

// mix chooses pods until each group has its share of so many GPUs, and shuffles them.
func mix(models []model, gpus int, cold float64, seed uint64) (pods []model) {
	shares := shares(cold)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, group := range groups {
		of := slices.DeleteFunc(slices.Clone(models), func(m model) bool { return m.group != group })
		total := 0.0
		for _, m := range of {
			total += m.weight
		}
		for has := 0.0; has < shares[group]*float64(gpus); {
			at := random.Float64() * total
			i := 0
			for ; i < len(of)-1 && at >= of[i].weight; i++ {
				at -= of[i].weight
			}
			pods = append(pods, of[i])
			has += float64(of[i].gpus) * float64(of[i].milli()) / whole
		}
	}
	random.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	return pods
}

const (
	// cpuPerGPU is how many thousandths of a CPU a pod asks for with each GPU, and hostMiB how much host memory beside as much
	// as on its GPUs, through which weights are loaded.
	cpuPerGPU = 6000
	hostMiB   = 8192
)

func podsCSV(pods []model) []byte {
	var out bytes.Buffer
	fmt.Fprintln(&out, "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec")
	for i := range pods {
		m := &pods[i]
		fmt.Fprintf(&out, "%s-%05d,%d,%d,%d,%d,%s\n", m.name, i, cpuPerGPU*m.gpus, m.mib*int64(m.gpus)+hostMiB, m.gpus, m.milli(), m.gpu)
	}
	return out.Bytes()
}

// kind is a kind of node, as a cloud has them: Amazon's p5en.48xlarge, p5.48xlarge, p4de.24xlarge, g6e.24xlarge, g6.48xlarge.
type kind struct {
	gpu         string
	gpus        int
	cpu, memory int64 // thousandths of a CPU, MiB
}

var kinds = []kind{
	{"H200-141", 8, 192_000, 2048 << 10}, {"H100-80", 8, 192_000, 2048 << 10}, {"A100-80", 8, 96_000, 1152 << 10},
	{"L40S-48", 4, 96_000, 768 << 10}, {"L4-24", 8, 192_000, 768 << 10},
}

// nodesCSV has as many GPUs of each model as the pods ask for.
func nodesCSV(pods []model) []byte {
	asked := map[string]float64{}
	for i := range pods {
		asked[pods[i].gpu] += float64(pods[i].gpus) * float64(pods[i].milli()) / whole
	}
	var out bytes.Buffer
	fmt.Fprintln(&out, "sn,cpu_milli,memory_mib,gpu,model")
	for _, k := range kinds {
		for i := range int(math.Ceil(asked[k.gpu] / float64(k.gpus))) {
			fmt.Fprintf(&out, "node-%s-%04d,%d,%d,%d,%s\n", lower(k.gpu), i, k.cpu, k.memory, k.gpus, k.gpu)
		}
	}
	return out.Bytes()
}

func lower(s string) string { return string(bytes.ToLower([]byte(s))) }
