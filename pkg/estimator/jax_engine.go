// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import "github.com/berth-dev/berth/pkg/estimator/flags"

// This is whatever runs on JAX, which takes a fraction of the GPU before it computes anything: 0.75 unless
// XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise, none with XLA_PYTHON_CLIENT_PREALLOCATE=false (docs.jax.dev, "GPU memory
// allocation"). Without one of its variables nothing shows it.
var _ = register(&Engine{
	Name:  "jax",
	Title: "JAX",
	Set: func(env flags.Environment) bool {
		if value, ok := env.Lookup("XLA_PYTHON_CLIENT_PREALLOCATE"); ok {
			return flags.Truthy(value)
		}
		if allocator, ok := env.Lookup("XLA_PYTHON_CLIENT_ALLOCATOR"); ok && allocator == "platform" {
			return false
		}
		return isSet(env, "XLA_PYTHON_CLIENT_MEM_FRACTION")
	},
	Variables: []flags.Variable{flags.Var("XLA_PYTHON_CLIENT_MEM_FRACTION", ofTotal)},
	Counts:    func(bool) []int { return []int{1} },
	Share:     shareOfTotal("XLA_PYTHON_CLIENT_MEM_FRACTION", 750_000),
	size:      customEngine.size,
})
