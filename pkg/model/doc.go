// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package model has the types of what is loaded and of how an engine is told to run it, which the API objects, the
// estimator and the readers of files and of command lines share. It has no logic of its own.
//
// +kubebuilder:object:generate=true
package model
