// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package follow follows what a pod claims on a node from cycle to cycle: it is judged again at each look, by all filters, and
// kept, moved, given up or bound. The claim itself is in the ledger, and its life is drawn in package claims.
package follow
