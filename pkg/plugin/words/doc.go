// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package words is what the plugin tells people: the reasons of its Events, and what is said of a placement. An Event of a
// placement waits until there is time for it.
package words
