// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// DefaultUtilization returns the fraction of a device, in parts per million, that a vLLM of that version takes when
// it is not told: 0.90 up to v0.19, 0.92 since (vllm/config/cache.py). An empty version means the newest known.
func DefaultUtilization(vllmVersion string) int64 {
	if !parseVersion(vllmVersion).atLeast(0, 20) {
		return defaultUtilizationOld
	}
	return defaultUtilization
}

// OutsideUtilization returns what a vLLM process holds on each of its GPUs beside its --gpu-memory-utilization, in
// bytes, when nothing is known of the model: the most that was measured of any, see startup and graphs. What the sampler
// takes later from v0.25 on is not in it, since it follows the vocabulary: 1.2 GiB for 128 Ki tokens, 2.5 for 256 Ki.
func OutsideUtilization(s Settings, gpus int) int64 {
	anyModel := vllm{m: &Model{Experts: &Experts{}}}
	outside := anyModel.startup(int64(gpus))
	if !s.EnforceEager && !parseVersion(s.Version).atLeast(0, 21) {
		outside = add(outside, largestGraphs)
	}
	return outside
}

// largestGraphs covers the largest measured memory of CUDA graphs (1.85 GiB), which are inside the fraction since
// vLLM 0.21.
const largestGraphs = 2000 * mib
