// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import "github.com/berth-dev/berth/pkg/estimator/flags"

// Flags that several engines have under names of their own.

// shards reads a tensor-parallel size.
func shards(s *flags.Scanner, name, value string) {
	flags.Reference("BERTH_TENSOR_PARALLEL_SIZE", func(r *flags.Result) *flags.Number { return &r.TensorParallel }, flags.ParseCount)(s, name, value)
}

// stages reads a pipeline-parallel size.
func stages(s *flags.Scanner, name, value string) {
	flags.Reference("", func(r *flags.Result) *flags.Number { return &r.PipelineParallel }, flags.ParseCount)(s, name, value)
	s.Settings.PipelineParallel = s.PipelineParallel.Value
}

// expertRanks reads over how many ranks experts are spread whole; over one they are not.
func expertRanks(s *flags.Scanner, name, value string) {
	s.Settings.ExpertParallel = s.Classify(name, value) && value != "1"
}

// fractionBy returns a flag that sets the fraction of a GPU that the engine takes, or refers to a variable of Berth's.
func fractionBy(variable string) func(s *flags.Scanner, name, value string) {
	return func(s *flags.Scanner, name, value string) {
		flags.Reference(variable, func(r *flags.Result) *flags.Number { return &r.GPUMemoryUtilization }, flags.ParseFraction)(s, name, value)
		s.Settings.GPUMemoryUtilization = s.GPUMemoryUtilization.Value
		s.Settings.UtilizationHandedOver = s.GPUMemoryUtilization.Source == flags.Berth
	}
}

// elsewhere notes a flag whose settings are in a file of the image or of a volume.
func elsewhere(s *flags.Scanner, name, _ string) { s.MarkUnknown(name) }
