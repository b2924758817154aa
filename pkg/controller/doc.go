// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controller keeps ModelProfiles: what the files of the models that pods name say about their memory, and
// what agents measured while they ran.
//
// Three reconcilers share the work. The pod reconciler makes a profile for each model that a pod names, and tells
// gated pods by Event what they wait for. The profile reconciler resolves each profile once for all its pods, again
// when that failed, and deletes what nobody uses. The peak reconciler takes down what GPUNodes report of pods that
// run a model. The scheduler, which gates the pods, wakes them by itself when a profile becomes Ready.
package controller
