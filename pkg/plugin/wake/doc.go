// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wake retries pods that the framework has parked, or that wait on a node, when something happens that may help
// them: it is applied to the books first and activates them afterwards. What happens comes as an event of the API, which
// room feed tells; as an event of the framework, whose hints are asked under the lock of its queue and so are worked out once
// for all pods; and as a moment, which the books tell.
package wake
