// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admission makes of a manifest the pods that an apiserver would store: defaults, priority, RuntimeClass, and what
// Berth's MutatingAdmissionPolicies add. The policies are evaluated as they are, by the apiserver's own code. Webhooks,
// quotas and limit ranges are not applied.
package admission
