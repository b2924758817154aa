// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package wake

import (
	"github.com/berth-dev/berth/pkg/plugin/claims"
	"github.com/berth-dev/berth/pkg/plugin/needs"
	"github.com/berth-dev/berth/pkg/plugin/parked"
	"github.com/berth-dev/berth/pkg/plugin/requests"
	"github.com/berth-dev/berth/pkg/plugin/shared"
)

// Waker retries pods that wait. It is safe for concurrent use.
type Waker struct {
	*shared.World
	Requests *requests.Reader
	Parked   *parked.List
	Claims   *claims.Book
	// Needs is what pods with a claim need beside its node.
	Needs *needs.List
	// Later runs something that would wait for a lock which the caller's caller holds.
	Later func(func())

	// unlisted are the pods that the queue may hold for a reason of Berth's and Parked does not: see ListFailed.
	unlisted podSet
	// claimants are those that would get a GPU by a resource claim.
	claimants podSet
	// refusals is when pods were refused first.
	refusals refusals
	// answers are those to the framework's questions whom an event helps.
	answers answers
}

// New returns a waker of the pods on a list.
func New(world *shared.World, r *requests.Reader, p *parked.List, c *claims.Book) *Waker {
	w := &Waker{World: world, Requests: r, Parked: p, Claims: c, Later: func(f func()) { go f() }}
	w.Needs = w.newNeeds()
	return w
}
