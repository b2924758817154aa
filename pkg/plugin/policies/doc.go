// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policies finds out whether the apiserver enforces Berth's admission policies. Berth relies on them: without
// them anybody can forge an allocation, and nobody would notice.
//
// Every few minutes each policy is given something that it must refuse, by an account that no policy exempts: always as
// a dry run, in a namespace whose quota allows no pod, so that nothing is ever made. What a dry run cannot show is read
// from the policy and its binding. A Checker makes such a round; a Watcher makes them one after the other, and tells;
// a State has what was found last.
package policies
