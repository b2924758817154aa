// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the API of Berth: the GPUNode and ModelProfile objects, and the annotations by which pods ask
// for GPU memory and are told what they got.
//
// +kubebuilder:object:generate=true
// +groupName=berth.dev
package v1alpha1
