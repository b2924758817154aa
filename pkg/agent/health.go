// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"
)

// logHealth logs each device that became unhealthy or healthy.
func (a *Agent) logHealth(ctx context.Context, r *Reading) {
	before := map[string]string{}
	if s := a.newest(); s != nil {
		for i := range s.Devices {
			before[s.Devices[i].UUID] = s.Devices[i].Reason
		}
	}
	for i := range r.Devices {
		d := &r.Devices[i]
		if was, known := before[d.UUID]; known && was == d.Reason || !known && d.Reason == "" {
			continue
		}
		klog.FromContext(ctx).Info("Health of device", "device", d.UUID, "reason", d.Reason, "message", d.Message)
	}
}

// Ready returns an error until the report has been written once, for a readiness probe: only then can the scheduler
// use the node.
func (a *Agent) Ready() error {
	if _, written := a.publisher.age(); !written {
		return errors.New("the report has not been written yet")
	}
	return nil
}

// Healthy returns an error if the agent does not get readings, for a liveness probe. That the driver is missing or
// the API server does not answer is no reason to be restarted.
func (a *Agent) Healthy() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if age := a.opts.Clock.Since(a.readAt); age > 6*stuckAfter {
		return fmt.Errorf("no reading returned for %s", age.Round(time.Second))
	}
	return nil
}
