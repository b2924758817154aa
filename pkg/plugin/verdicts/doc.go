// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package verdicts says why a pod fits nowhere: in a reason for the framework, and in words for people. It decides nothing.
package verdicts
