// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/estimator"
)

const estimateLong = `Say how much memory a model needs on each GPU, before it runs.

MODEL is a GGUF file, a folder with config.json and safetensors files, or a source as pods name it (hf://…, ollama://…,
https://…, profile://NAME): of a ModelProfile of the cluster or, without one, read from where it is (HF_TOKEN and
HF_ENDPOINT are those of Hugging Face's tools). Only headers are read; local files need no cluster. With --config, a
config.json alone is enough: the weights are then computed from the dimensions of the architecture.

TOTAL is the sum of the columns behind it: COMPUTE is activations or compute buffers, ENGINE what is not the model's
(CUDA, NCCL, CUDA graphs).

Settings that are not given are the engine's defaults; the answer says which were assumed. The engines' own spellings
are taken, too: -ngl 20, --max-model-len 32k, --flash-attn on.`

const estimateExample = `  # A GGUF file under llama.cpp, with a context of 32k over 4 slots
  kubectl berth estimate model.gguf --context-length 32768 --parallel 4

  # What vLLM needs on one, two or four H100s
  kubectl berth estimate --config config.json --runtime vllm --context-length 8192 \
    --gpu-count 1,2,4 --gpu-memory-total 79.19Gi --gpu-name H100

  # For scripts: bytes per device and component
  kubectl berth estimate ./Qwen3-8B --runtime vllm -o json | jq '.options[0].devices[0]'`

// estimateOptions are the flags of kubectl berth estimate.
type estimateOptions struct {
	modelReader

	output string

	settings    estimator.Settings
	runtime     string
	gpuCount    string
	gpuMemory   string
	utilization string
	gpuLayers   string
	flash       string
	unified     string
	gpuName     string
	tensorSize  int64
	cpuExperts  int64
}

func newEstimateCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &estimateOptions{modelReader: modelReader{IOStreams: streams, restConfig: flags.ToRESTConfig}}
	command := &cobra.Command{
		Use:     "estimate [MODEL]",
		Short:   "Say how much memory a model needs on each GPU",
		Long:    estimateLong,
		Example: estimateExample,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.model = args[0]
			}
			return o.run(cmd.Context())
		},
	}
	o.addFlags(command.Flags())
	return command
}

// document is what -o json prints: the result, and what it is of.
type document struct {
	Model modelInfo `json:"model"`
	estimator.Result
}

// modelInfo is what was read of the model.
type modelInfo struct {
	Architecture  string                  `json:"architecture"`
	Format        estimator.Format        `json:"format"`
	Parameters    int64                   `json:"parameters,omitempty"`
	Quantization  string                  `json:"quantization,omitempty"`
	WeightsSource estimator.WeightsSource `json:"weightsSource"`
	FileSize      int64                   `json:"fileSize,omitempty"`
	ContextLength int64                   `json:"contextLength,omitempty"`
}

func modelOf(m *estimator.Model) modelInfo {
	return modelInfo{
		Architecture: m.Architecture, Format: m.Format, Parameters: m.Parameters, Quantization: m.Quantization,
		WeightsSource: m.WeightsSource, FileSize: m.FileSize, ContextLength: m.ContextLength,
	}
}

// run reads the model, estimates it and prints the result.
func (o *estimateOptions) run(ctx context.Context) error {
	if o.output != "table" && o.output != "json" {
		return fmt.Errorf("output %q is neither table nor json", o.output)
	}
	counts, err := o.counts()
	if err != nil {
		return err
	}
	device, err := o.device()
	if err != nil {
		return err
	}
	if err := o.resolveSettings(); err != nil {
		return err
	}
	model, err := o.load(ctx)
	if err != nil {
		return err
	}
	if o.settings.Runtime == "" {
		// The engine that people run files of this format with.
		o.settings.Runtime = estimator.RuntimeVLLM
		if model.Format == estimator.FormatGGUF {
			o.settings.Runtime = estimator.RuntimeLlamaCpp
		}
	}
	result, err := estimator.Estimate(model, o.settings, counts, device)
	if err != nil {
		return err
	}
	if o.output == "json" {
		encoder := json.NewEncoder(o.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(document{Model: modelOf(model), Result: result})
	}
	return o.printTable(model, &result, counts, device)
}
