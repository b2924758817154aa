// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/modelsource"
	"github.com/berth-dev/berth/pkg/modelsource/modelread"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

// resolverOf returns a resolver whose hubs are all at endpoint.
func resolverOf(t *testing.T, endpoint string) *modelsource.Resolver {
	t.Helper()
	policy, err := modelsource.NewPolicy([]string{endpoint}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := modelsource.NewResolver(modelsource.Config{HuggingFaceEndpoint: endpoint, OllamaEndpoint: endpoint, Policy: policy, Backoff: 1})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHeaderOfA70BModelCostsUnder16MiBAndGivesASmallProfile(t *testing.T) {
	file := modeltest.Llama70B.GGUF()
	if len(file.Head) < 6<<20 {
		t.Fatalf("the header has %d bytes, which is not that of a 70B model", len(file.Head))
	}
	server := modeltest.NewServer(t, map[string]modeltest.File{"/x.gguf": file})
	res, err := resolve(t.Context(), resolverOf(t, server.URL), server.URL+"/x.gguf", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := server.Bytes(); got >= 16<<20 {
		t.Errorf("%d bytes were read, want under 16 MiB", got)
	}
	if got := server.Requests(); got > 12 {
		t.Errorf("%d requests, want at most 12", got)
	}
	// 70.55e9 weights of 8.5 bits.
	if m := res.model; m.FileSize < 74e9 || m.LayerCount != 80 || m.KVHeads != 8 || res.size != file.Size {
		t.Errorf("got %d bytes, %d layers, %d KV heads and a size of %d", m.FileSize, m.LayerCount, m.KVHeads, res.size)
	}
	profile := &berthv1alpha1.ModelProfile{}
	setResolved(profile, &profile.Status, res, testTime)
	settings := estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, Parallel: 4, KVCacheType: "q8_0", FlashAttention: estimator.SwitchOn}
	// One namespace that runs it with a few settings, and then as many as are kept.
	for _, tc := range []struct{ namespaces, settings, want int }{{1, 4, 8 << 10}, {maxPeaks / maxPeaksOfNamespace, maxPeaksOfNamespace, 128 << 10}} {
		for namespace := range tc.namespaces {
			for i := range tc.settings * maxRuns {
				settings.ContextLength = int64(131072 + i%tc.settings)
				m := of(fmt.Sprintf("a-namespace-of-a-team-%d", namespace), i, settings, 81e9+1, 81e9+3, 81e9+5, 81e9+7, 81e9+9, 81e9+11, 81e9+13, 81e9+15)
				m.pod = types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", i))
				fold(profile, m, testTime)
			}
		}
		data, err := json.Marshal(profile)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) >= tc.want {
			t.Errorf("the profile has %d bytes, want under %d", len(data), tc.want)
		}
		t.Logf("profile of %d bytes", len(data))
	}
	t.Logf("header %d bytes: read %d bytes in %d requests", len(file.Head), server.Bytes(), server.Requests())
}

func TestUnchangedFilesAreNotReadAgain(t *testing.T) {
	server := modeltest.NewServer(t, map[string]modeltest.File{"/x.gguf": modeltest.Tiny.GGUF()})
	r := resolverOf(t, server.URL)
	first, err := resolve(t.Context(), r, server.URL+"/x.gguf", "")
	if err != nil {
		t.Fatal(err)
	}
	again, err := resolve(t.Context(), r, server.URL+"/x.gguf", first.etag)
	if err != nil {
		t.Fatal(err)
	}
	if !again.unchanged || again.model != nil || again.etag != first.etag {
		t.Errorf("got %+v, want that nothing changed", again)
	}
}

func TestSafetensorsAreReadWithTheirConfig(t *testing.T) {
	config := []byte(`{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,"intermediate_size":128,
		"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":100,"max_position_embeddings":2048,"torch_dtype":"bfloat16"}`)
	table := `{"model.embed_tokens.weight":{"dtype":"BF16","shape":[100,64],"data_offsets":[0,12800]}}`
	shard := append(binary.LittleEndian.AppendUint64(nil, uint64(len(table))), table...)
	shard = append(shard, make([]byte, 12800)...)
	server := modeltest.NewServer(t, map[string]modeltest.File{"/m/config.json": modeltest.Content(config), "/m/model.safetensors": modeltest.Content(shard)})
	res, err := resolve(t.Context(), resolverOf(t, server.URL), server.URL+"/m/config.json", "")
	if err != nil {
		t.Fatal(err)
	}
	if res.model.Architecture != "LlamaForCausalLM" || res.model.Embedding != 12800 || res.model.WeightsSource != "tensors" {
		t.Errorf("got %+v", res.model)
	}
}

func TestFilesThatAreNoModelsAreBad(t *testing.T) {
	tiny := modeltest.Tiny.GGUF().Head
	for name, data := range map[string][]byte{
		"a web page":       []byte("<!DOCTYPE html><html></html>"),
		"a truncated file": tiny[:len(tiny)/2],
		"a huge count":     append([]byte("GGUF\x03\x00\x00\x00"), bytes.Repeat([]byte{0xff}, 64)...),
	} {
		t.Run(name, func(t *testing.T) {
			server := modeltest.NewServer(t, map[string]modeltest.File{"/x.gguf": modeltest.Content(data)})
			_, err := resolve(t.Context(), resolverOf(t, server.URL), server.URL+"/x.gguf", "")
			if reason, message, _ := failure(err); err == nil || reason != modelsource.BadFile {
				t.Errorf("got %v (%s: %s), want BadFile", err, reason, message)
			}
		})
	}
}

func TestSourceErrorsKeepTheirReasonThroughTheReaders(t *testing.T) {
	s := &modelsource.Snapshot{Format: modelsource.FormatGGUF, Weights: []modelsource.File{brokenFile{}}}
	_, err := modelread.Read(t.Context(), s, nil)
	if reason, _, _ := failure(err); reason != modelsource.Unreachable {
		t.Errorf("got %v with the reason %s, want Unreachable", err, reason)
	}
}

// brokenFile is a file whose source goes away.
type brokenFile struct{}

func (brokenFile) Name() string { return "x.gguf" }
func (brokenFile) Size() int64  { return 1 << 30 }
func (brokenFile) ReadAt([]byte, int64) (int, error) {
	return 0, &modelsource.Error{Reason: modelsource.Unreachable, Message: "gone"}
}

// panickingFile stands for a reader's mistake.
type panickingFile struct{ brokenFile }

func (panickingFile) ReadAt([]byte, int64) (int, error) { panic("a mistake") }

func TestReaderThatPanicsIsABadFile(t *testing.T) {
	s := &modelsource.Snapshot{Format: modelsource.FormatGGUF, Weights: []modelsource.File{panickingFile{}}}
	_, err := modelread.Read(t.Context(), s, nil)
	if reason, message, _ := failure(err); reason != modelsource.BadFile || !strings.Contains(message, "a mistake") {
		t.Errorf("got %s: %s, want BadFile with the mistake", reason, message)
	}
}

func TestMessagesAreShortAndWhole(t *testing.T) {
	got := shortened(strings.Repeat("é", 1000))
	if len(got) > maxMessage+3 || !strings.HasSuffix(got, "é…") {
		t.Errorf("got %d bytes that end in %q", len(got), got[len(got)-6:])
	}
	if got := shortened("short"); got != "short" {
		t.Errorf("got %q", got)
	}
}
