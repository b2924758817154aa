// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package claims knows what there is beside the ledger of pods that wait for memory on a node: who was evicted to make
// room and is not gone yet, where a pod has waited in vain, which controllers lost a pod to an idle eviction, and which
// pods the scheduler before this one nominated.
//
// The claim itself is an entry of the ledger (gpustate.Claimed): it is seen by every view and is dropped with its pod.
// Its life, as the pod's cycles see it:
//
//	               nothing fits, but a node will do
//	(none) ─────────────────────────────────────────────▶ waits ◀──────────────────────┐
//	  ▲                                                  │ │ │ │                        │
//	  │  fits: Reserve replaces it by a booking          │ │ │ │ judged again, by all   │
//	  ├──────────────────────────────────────────────────┘ │ │ │ filters, at each look: │
//	  │                                                    │ │ └─ still good ───────────┤
//	  │  impossible (cordoned, no CPU, node gone, a victim │ │                          │
//	  │  that lives), or past its deadline: another way    │ │                          │
//	  ├────────────────────────────────────────────────────┘ │ its place went to        │ its place
//	  │                                                      │ another pod              │ is back
//	  │  its victims are gone, or waitBeforeEviction is over ▼                          │
//	  └──────────────────────────────────────────────────── lost ───────────────────────┘
//	                                             holds nothing, evicts nobody
//
// A claim without victims only waits. It is made before anybody is evicted if the memory can be expected within
// waitBeforeEviction, and is left for an eviction when that time is over; a claim whose memory comes later than that is
// made only if nobody can be evicted, and holds nothing until then.
package claims
