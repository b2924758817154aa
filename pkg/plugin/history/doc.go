// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package history tells what was decided of pods that ask for GPU memory, and who was evicted: one structured line of the
// log each, with its reason, and a count of each reason. Lines and counts outlive Events, which clusters keep for an hour.
// docs/history.md has a table of the lines, which a test compares with what is logged.
package history
