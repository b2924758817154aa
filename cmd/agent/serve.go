// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/agent"
)

// headerTimeout bounds how long a client may take to ask.
const headerTimeout = 10 * time.Second

// serve serves /metrics, /healthz and /readyz until the function that it returns is called.
func serve(address string, a *agent.Agent) (stop func(), err error) {
	legacyregistry.CustomMustRegister(a.Collector())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", legacyregistry.Handler())
	for path, check := range map[string]func() error{"/healthz": a.Healthy, "/readyz": a.Ready} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if err := check(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprintln(w, "ok")
		})
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			klog.Background().Error(err, "Metrics not served any more")
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	}, nil
}
