// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package recovery

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/cache"
)

func TestInformersThatDoNotSync(t *testing.T) {
	r := &Recovery{Synced: []cache.InformerSynced{func() bool { return false }}}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.recoverBooks(ctx); err == nil || !strings.Contains(err.Error(), "are the CRDs of berth.dev installed?") {
		t.Errorf("got %v", err)
	}
}
