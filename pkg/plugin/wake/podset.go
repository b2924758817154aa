// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package wake

import (
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
)

// podSet is a set of pods, which is mostly empty. It is safe for concurrent use.
type podSet struct {
	mu    sync.RWMutex
	pods  sets.Set[types.UID]
	count atomic.Int64
}

func (u *podSet) add(uid types.UID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pods == nil {
		u.pods = sets.New[types.UID]()
	}
	u.pods.Insert(uid)
	u.count.Store(int64(len(u.pods)))
}

func (u *podSet) remove(uid types.UID) {
	if u.count.Load() == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pods.Delete(uid)
	u.count.Store(int64(len(u.pods)))
}

func (u *podSet) has(uid types.UID) bool {
	if u.count.Load() == 0 {
		return false
	}
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.pods.Has(uid)
}
