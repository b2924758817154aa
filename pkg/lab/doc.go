// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lab brings up a real Kubernetes control plane with simulated nodes on one machine, for demos, tests and
// benchmarks of Berth:
//
//	etcd, kube-apiserver, controllers   this process (package controlplane)
//	kubelets                            this process, simulated by KWOK (package kwok)
//	GPUs and their agents               this process (package gpusim and the real agent code)
//	scheduler, controller               child processes under their own service accounts (package child)
//
// One process runs one lab; labs of several processes do not meet: each has its own ports and its own folder.
package lab
