// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package faults watches for what should not be, and tells those whom it concerns: GPUs that are gone, reported twice, or
// booked beyond their memory; reports that cannot be read; pods that were bound without an allocation; nodes whose driver is
// to be replaced; admission policies that are not in force. Only what is overbooked, in the way of a driver, or, where an admin
// says so, on a GPU that is lost or too large for its booking, is mended too, by the leader.
package faults
