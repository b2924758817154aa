// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package requests reads what pods ask for, and keeps it: each version of a pod, and of the profile of its model, is read
// once. It decides nothing.
package requests
