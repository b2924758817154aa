// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs a real Kubernetes control plane inside the calling process: etcd (embedded, without
// fsync), kube-apiserver and the kube-controller-manager's controllers, all linked in as libraries.
//
// kube-apiserver keeps feature gates, metrics and its logger in package variables, so a process can start one
// control plane in its life; several labs are several processes. For the same reason Start sends everything that
// the process logs through klog to a file of the control plane.
//
// The version that the apiserver reports is k8s.io/component-base/version.gitVersion, which only the linker can set:
//
//	go build -ldflags "-X k8s.io/component-base/version.gitVersion=v1.37.2" ./cmd/berth-lab
//
// A binary built without it, such as that of go test, reports v0.0.0-master but serves the APIs of 1.37.
package controlplane
