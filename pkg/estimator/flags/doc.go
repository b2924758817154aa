// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package flags reads the settings of an inference engine from the words of its command line and from its environment.
// Which flags and variables an engine has is in the engine's own table (package estimator); this package has what they
// are made of.
package flags
