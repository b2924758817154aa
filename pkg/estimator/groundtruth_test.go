// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/modelfile"
)

const (
	mebibyte = 1 << 20
	gibibyte = 1 << 30
)

// record is one public measurement (groundtruth.jsonl).
type record struct {
	ID       string
	Tier     string
	Runtime  string
	Model    string
	GPU      string
	Settings map[string]any
	Arch     map[string]any
	Measured map[string]any
	Public   bool `json:"public_in_dependency"`
}

// number returns the value of a key as a number, 0 when it is none.
func number(m map[string]any, key string) float64 {
	v, _ := m[key].(float64)
	return v
}

func word(m map[string]any, key string) string {
	v, _ := m[key].(string)
	return v
}

// readRecords reads the measurements of some runtimes: those of the folder named by BERTH_DATA, else the ones that
// are kept here.
func readRecords(t *testing.T, runtimes ...string) []record {
	t.Helper()
	name := "testdata/measurements.jsonl"
	if dir := os.Getenv("BERTH_DATA"); dir != "" {
		name = filepath.Join(dir, "groundtruth.jsonl")
	}
	records := slices.DeleteFunc(readLines[record](t, name), func(r record) bool { return !slices.Contains(runtimes, r.Runtime) })
	if len(records) == 0 {
		t.Fatalf("no records of %v", runtimes)
	}
	return records
}

// readLines reads a file with one JSON object a line.
func readLines[T any](t *testing.T, name string) []T {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []T
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var one T
		if err := json.Unmarshal(scanner.Bytes(), &one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// knownModels are public configurations of the models that records name.
type knownModels struct {
	Configs map[string]map[string]any
	// Files names the configuration in model-configs instead.
	Files map[string]string
}

func readKnownModels(t *testing.T) knownModels {
	t.Helper()
	data, err := os.ReadFile("testdata/models.json")
	if err != nil {
		t.Fatal(err)
	}
	var k knownModels
	if err := json.Unmarshal(data, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

// row is one component of one record.
type row struct {
	record, component   string
	measured, estimated float64
	low, high           float64 // what the estimate may be
}

func (r *row) ok() bool { return r.estimated >= r.low && r.estimated <= r.high }

// table collects rows and summarises them.
type table struct{ rows []row }

// add compares within measured − below and measured + above.
func (tb *table) add(record, component string, measured, estimated, below, above float64) {
	tb.rows = append(tb.rows, row{
		record: record, component: component, measured: measured, estimated: estimated, low: measured - below, high: measured + above,
	})
}

func (tb *table) log(t *testing.T, unit string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-66s %-16s %12s %12s %9s %7s\n", "record", "component", "measured", "estimated", "error", "")
	for i := range tb.rows {
		r := &tb.rows[i]
		verdict := "ok"
		if !r.ok() {
			verdict = "MISS"
		}
		fmt.Fprintf(&b, "%-66s %-16s %12.2f %12.2f %+8.2f%% %7s\n", r.record, r.component, r.measured, r.estimated, percent(r), verdict)
	}
	t.Logf("%s (%s)", b.String(), unit)
	tb.summarise(t)
}

func percent(r *row) float64 {
	if r.measured == 0 {
		return 0
	}
	return 100 * (r.estimated - r.measured) / math.Abs(r.measured)
}

// summarise prints mean and worst errors per component, and how often the estimate is under the measurement.
func (tb *table) summarise(t *testing.T) {
	t.Helper()
	var names []string
	for i := range tb.rows {
		if !slices.Contains(names, tb.rows[i].component) {
			names = append(names, tb.rows[i].component)
		}
	}
	for _, name := range names {
		var n, under, miss int
		var sum, worst float64
		for i := range tb.rows {
			r := &tb.rows[i]
			if r.component != name {
				continue
			}
			n++
			p := percent(r)
			sum += math.Abs(p)
			if math.Abs(p) > math.Abs(worst) {
				worst = p
			}
			if r.estimated < r.measured {
				under++
			}
			if !r.ok() {
				miss++
			}
		}
		t.Logf("%-16s %3d records: mean error %6.2f%%, worst %+8.2f%%, under %3d, outside tolerance %d", name, n, sum/float64(n), worst, under, miss)
	}
}

// check fails for each row out of tolerance that is not excused, and for each excuse that is not needed any more.
func (tb *table) check(t *testing.T, excuses map[string]string) {
	t.Helper()
	used, seen := map[string]bool{}, map[string]bool{}
	for i := range tb.rows {
		r := &tb.rows[i]
		seen[r.record] = true
		key := r.record + " " + r.component
		if r.ok() {
			continue
		}
		if why, ok := excuses[key]; ok {
			used[key] = true
			t.Logf("outside tolerance: %s: %s", key, why)
			continue
		}
		t.Errorf("%s: measured %.3f, estimated %.3f, want between %.3f and %.3f", key, r.measured, r.estimated, r.low, r.high)
	}
	for key := range excuses {
		if !used[key] && seen[strings.Fields(key)[0]] {
			t.Errorf("%s is excused and within tolerance", key)
		}
	}
}

// modelOf builds the model of a vLLM record: its configuration file, or its dimensions and the public rest.
func modelOf(t *testing.T, r *record, known knownModels) *estimator.Model {
	t.Helper()
	if file, ok := known.Files[r.Model]; ok {
		if os.Getenv("BERTH_DATA") == "" {
			return nil
		}
		dir := modelfile.Dir(filepath.Join(os.Getenv("BERTH_DATA"), "model-configs"))
		m, err := modelfile.ReadConfig(dir, file+"_config.json", file+"_hf_quant_config.json")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	config := map[string]any{}
	for k, v := range known.Configs[r.Model] {
		config[k] = v
	}
	for k, v := range r.Arch {
		if k != "architecture" && k != "arch_source" {
			config[k] = v
		}
	}
	if config["num_hidden_layers"] == nil {
		return nil
	}
	return parseConfig(t, config)
}

func TestVLLMAgainstMeasurements(t *testing.T) {
	known := readKnownModels(t)
	var tb table
	for _, r := range readRecords(t, "vllm") {
		m := modelOf(t, &r, known)
		if m == nil || m.UnknownArchitecture && r.Tier != "kv-only" {
			t.Logf("%s: no dimensions in the record", r.ID)
			continue
		}
		addVLLM(t, &tb, &r, m)
	}
	tb.log(t, "GiB; kv/token in bytes")
	tb.check(t, vllmExcuses)
}

// vllmSettings are the settings of a record.
func vllmSettings(r *record) (estimator.Settings, []int) {
	s := r.Settings
	eager, _ := s["enforce_eager"].(bool)
	out := estimator.Settings{
		Runtime: estimator.RuntimeVLLM, Version: word(s, "vllm_version"),
		ContextLength: int64(number(s, "max_model_len")), GPUMemoryUtilization: int64(math.Round(number(s, "gpu_memory_utilization") * 1e6)),
		MaxNumSeqs: int64(number(s, "max_num_seqs")), MaxNumBatchedTokens: int64(number(s, "max_num_batched_tokens")),
		KVCacheType: word(s, "kv_cache_dtype"), DType: word(s, "dtype"), EnforceEager: eager,
		BlockSize: int64(number(s, "block_size")), PipelineParallel: int64(number(s, "pipeline_parallel")),
	}
	out.Quantization = word(s, "quantization")
	return out, []int{int(max(number(s, "gpus"), 1))}
}

func addVLLM(t *testing.T, tb *table, r *record, m *estimator.Model) {
	t.Helper()
	s, counts := vllmSettings(r)
	device := estimator.DeviceInfo{Total: int64(number(r.Measured, "gpu_total") * gibibyte), Name: r.GPU}
	result, err := estimator.Estimate(m, s, counts, device)
	if err != nil || len(result.Options) != 1 {
		t.Fatalf("%s: %v %+v", r.ID, err, result.Refused)
	}
	o := &result.Options[0]
	c := &o.Devices[0].Components
	gib := func(n int64) float64 { return float64(n) / gibibyte }
	if w := number(r.Measured, "weights"); w > 0 {
		tb.add(r.ID, "weights", w, gib(c.Weights), w*0.02, w*0.02)
	}
	available, tokens := number(r.Measured, "available_kv"), number(r.Measured, "kv_tokens")
	if c.RecurrentState > 0 {
		// The token count of a hybrid is not a capacity (vllm#40691); the concurrency is.
		tokens = number(r.Measured, "max_concurrency") * number(r.Settings, "max_model_len")
	}
	if tokens > 0 && available > 0 && s.PipelineParallel <= 1 {
		// Both figures are rounded: the pool to 0.01 GiB, the tokens to pages.
		perToken := available * gibibyte / tokens
		slack := perToken * (0.003 + 0.01/available)
		if c.RecurrentState > 0 {
			slack += perToken * 0.005 / number(r.Measured, "max_concurrency")
		}
		tb.add(r.ID, "kv/token", perToken, float64(o.KVBytesPerToken), slack, slack)
	}
	if a := number(r.Measured, "peak_activation"); a > 0 {
		tb.add(r.ID, "activation", a, gib(c.Compute), 0.15, 0.6)
	}
	total, requested := number(r.Measured, "gpu_total"), number(r.Measured, "requested")
	if available > 0 && total > 0 && requested > 0 {
		inside := gib(c.Weights + c.Compute + c.Engine - o.Outside)
		tb.add(r.ID, "kv promised", available, math.Max(requested-inside, 0), math.Inf(1), 0.5)
	}
	if strings.Contains(r.ID, "FAILED") || r.Tier == "failure" {
		if total == 0 {
			device.Total = 79 * gibibyte // the size of such a card
			result, _ = estimator.Estimate(m, s, counts, device)
			o = &result.Options[0]
		}
		if o.Feasible && !o.Tight {
			t.Errorf("%s failed to start and is estimated as feasible: %+v", r.ID, o)
		}
	} else if total > 0 && available > 0 && !o.Feasible {
		t.Errorf("%s started and is estimated as not feasible: %s", r.ID, o.Reason)
	}
}
