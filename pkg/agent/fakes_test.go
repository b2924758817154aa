// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

var errDown = errors.New("the API server is down")

// fakeClient is an API server that remembers what was written.
type fakeClient struct {
	mu sync.Mutex
	// node is the object; nil = there is none.
	node   *berthv1alpha1.GPUNode
	writes []write
	leases []time.Time
	// down makes requests fail, after they took effect if applied is set.
	down, applied bool
	tries         int
}

type write struct {
	at     time.Time
	status *berthv1alpha1.GPUNodeStatus
}

func (c *fakeClient) Report(context.Context) (*berthv1alpha1.GPUNode, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.down:
		return nil, errDown
	case c.node == nil:
		return nil, apierrors.NewNotFound(berthv1alpha1.GroupVersion.WithResource("gpunodes").GroupResource(), "n")
	}
	return c.node.DeepCopy(), nil
}

func (c *fakeClient) Version(ctx context.Context, _ string) (string, error) {
	gn, err := c.Report(ctx)
	if err != nil {
		return "", err
	}
	return gn.ResourceVersion, nil
}

func (c *fakeClient) Apply(_ context.Context, s *berthv1alpha1.GPUNodeStatus) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries++
	if c.down && !c.applied {
		return "", errDown
	}
	if c.node == nil {
		c.node = &berthv1alpha1.GPUNode{}
	}
	c.writes = append(c.writes, write{time.Now(), s.DeepCopy()})
	c.node.Status = *s.DeepCopy()
	c.node.ResourceVersion = strconv.Itoa(len(c.writes))
	if c.down {
		return "", errDown
	}
	return c.node.ResourceVersion, nil
}

func (c *fakeClient) RenewLease(_ context.Context, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return errDown
	}
	c.leases = append(c.leases, now)
	return nil
}

func (c *fakeClient) set(down, applied bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down, c.applied = down, applied
}

func (c *fakeClient) all() []write {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]write(nil), c.writes...)
}

func (c *fakeClient) last() *berthv1alpha1.GPUNodeStatus {
	if w := c.all(); len(w) > 0 {
		return w[len(w)-1].status
	}
	return nil
}

func (c *fakeClient) renewals() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]time.Time(nil), c.leases...)
}

// fakeReader is hardware that a test changes.
type fakeReader struct {
	mu      sync.Mutex
	reading Reading
	err     error
	// hang makes readings not return.
	hang   chan struct{}
	closed bool
}

func (r *fakeReader) Read(context.Context) (*Reading, error) {
	r.mu.Lock()
	hang := r.hang
	r.mu.Unlock()
	if hang != nil {
		<-hang
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	copied := r.reading
	copied.Devices = append([]Device(nil), r.reading.Devices...)
	return &copied, nil
}

func (r *fakeReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

func (r *fakeReader) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// fakeAttributor knows the pods of processes.
type fakeAttributor map[int]types.UID

func (a fakeAttributor) Attribute(pids []int) map[int]types.UID {
	out := map[int]types.UID{}
	for _, pid := range pids {
		if uid, ok := a[pid]; ok {
			out[pid] = uid
		}
	}
	return out
}

// fakeNames are the names of the node's pods.
type fakeNames map[types.UID]types.NamespacedName

func (n fakeNames) Names() (map[types.UID]types.NamespacedName, error) { return n, nil }
