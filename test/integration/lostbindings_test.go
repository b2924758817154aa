// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestLostBindings puts a proxy between scheduler and apiserver that loses the answers of Bindings, after they were
// applied, before, or delivers them late: no GPU is overbooked, and every pod is placed once.
func TestLostBindings(t *testing.T) {
	lab := harness.Start(t, "--bare", "--no-controller", "--no-scheduler")
	for i := range 4 {
		name := fmt.Sprintf("n%d", i)
		lab.AddNode(t, berthtesting.MakeNode(name), berthtesting.MakeGPUsOf(name, 4, "80Gi").Obj())
	}
	proxy := newLossyProxy(t, lab)
	runScheduler(t, lab, proxy.apiProxy, "{staleAfter: 0s, bindTimeout: 2s}")

	const pods = 40 // of 39Gi each, on 4 × 4 GPUs with room for two
	for i := range pods {
		pod := berthtesting.MakePod(fmt.Sprintf("p%d", i)).Memory("39Gi")
		if i >= 28 {
			pod.Memory("9Gi")
		}
		harness.Create(t, lab, pod.Obj())
	}
	for i := range pods {
		lab.WaitBound(t, berthtesting.MakePod(fmt.Sprintf("p%d", i)).Obj())
		checkBooks(t, lab)
	}
	if proxy.lost.Load() == 0 {
		t.Error("the proxy lost no Binding, so nothing was tested")
	}
}

type lossyProxy struct {
	*apiProxy
	lost atomic.Int64
}

func newLossyProxy(t *testing.T, lab *harness.Lab) *lossyProxy {
	t.Helper()
	p := &lossyProxy{}
	var bindings atomic.Int64
	p.apiProxy = newAPIProxy(t, lab, func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/binding") {
			forward(w, r)
			return
		}
		switch bindings.Add(1) % 4 {
		case 0: // applied, answer lost
			p.lost.Add(1)
			forward(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusGatewayTimeout)
		case 1: // never applied
			p.lost.Add(1)
			w.WriteHeader(http.StatusGatewayTimeout)
		case 2: // applied after the client has given up on the connection
			p.lost.Add(1)
			late := r.Clone(context.WithoutCancel(r.Context()))
			go func() {
				time.Sleep(time.Second)
				forward(httptest.NewRecorder(), late)
			}()
			<-r.Context().Done()
		default:
			forward(w, r)
		}
	})
	return p
}
