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
// bytes, when nothing is known of the model: the most that was measured of any, see startup and graphs. Of an image whose
// tag says v0.25 or newer, what the sampler takes later is in it, for a vocabulary of 256 Ki tokens. Where the release is
// not known it is not: the contract's figures hold (0.5 GiB on one GPU, 2.1 on several).
func OutsideUtilization(s Settings, dev DeviceInfo, gpus int) int64 {
	anyModel := vllm{m: &Model{Experts: &Experts{}, VocabularySize: 256 << 10}, s: &s, dev: dev, version: parseVersion(s.Version), context: contextWhenUnknown}
	outside := anyModel.startup(int64(gpus))
	if !s.EnforceEager && !anyModel.version.atLeast(0, 21) {
		outside = add(outside, largestGraphs)
	}
	if anyModel.version != newest {
		anyModel.maxSeqs, _ = anyModel.limits()
		outside = add(outside, anyModel.samplerAfter())
	}
	return outside
}

// largestGraphs covers the largest measured memory of CUDA graphs (1.85 GiB), which are inside the fraction since
// vLLM 0.21.
const largestGraphs = 2000 * mib
