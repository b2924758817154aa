// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

// cudaContext returns what the process holds on a device beside its buffers: CUDA context, cuBLAS workspaces and
// kernels. It grows with the number of multiprocessors; figures are driver totals minus buffers: 107 MiB RTX 4060 Ti,
// 309 RTX 3090, 451 to 456 RTX 4090, about 707 RTX PRO 6000, about 830 B200. Where the name is not known, the memory
// of the device tells its class.
func (l *llama) cudaContext() int64 {
	for _, c := range contexts {
		if containsFold(l.dev.Name, c.name) {
			return c.mib * mib
		}
	}
	switch total := l.dev.Total; {
	case total == 0:
		return 440 * mib
	case total < 17*gib:
		return 240 * mib
	case total < 28*gib:
		return 460 * mib
	case total < 70*gib:
		return 560 * mib
	}
	return 720 * mib
}

// contexts are the bytes of a CUDA context by a part of the device's name.
var contexts = []struct {
	name string
	mib  int64
}{
	{"4060", 160}, {"3060", 200}, {"T4", 200}, {"L4 ", 300}, {"3090", 320}, {"3080", 320}, {"A10 ", 330}, {"4090", 470}, {"L40", 480},
	{"A100", 500}, {"5090", 560}, {"PRO 6000", 720}, {"B200", 860}, {"H200", 640}, {"H100", 640},
}
