// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/internal/conncap"
	"github.com/berth-dev/berth/pkg/agent"
)

// What the port may take, so that whoever reaches it cannot fill the agent's memory: an agent that dies closes its node.
const (
	// maxConnections are enough for several Prometheuses and the kubelet's probes; one takes some 60 KiB.
	maxConnections = 64
	// maxHeader is enough for any token of a service account, in bytes.
	maxHeader = 16 << 10
	// readTimeout bounds how long a client may take to ask, and writeTimeout until when he must have taken his answer, the
	// API server's about him included.
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
	// idleTimeout keeps the connection of a Prometheus that comes every minute.
	idleTimeout = 90 * time.Second
	// complaintsLogged is how often it is logged that a connection was no good: whoever reaches the port can make many.
	complaintsLogged = time.Minute
)

// serve serves /metrics, /healthz and /readyz until the function that it returns is called.
func serve(o *options, config *rest.Config, a *agent.Agent) (stop func(), err error) {
	legacyregistry.CustomMustRegister(a.Collector())
	metrics := legacyregistry.Handler()
	if o.secureMetrics {
		if metrics, err = authorized(config, metrics); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", &gate{handler: metrics, most: maxScrapes, ofAddress: maxScrapesOfOne})
	for path, check := range map[string]func() error{"/healthz": a.Healthy, "/readyz": a.Ready} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if err := check(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprintln(w, "ok")
		})
	}
	server := &http.Server{
		Handler: mux, ConnState: conncap.New(maxConnections).ConnState, MaxHeaderBytes: maxHeader,
		ReadTimeout: readTimeout, ReadHeaderTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		Protocols: new(http.Protocols), ErrorLog: log.New(&complaints{rate.NewLimiter(rate.Every(complaintsLogged), 1)}, "", 0),
	}
	server.Protocols.SetHTTP1(true) // one connection of HTTP/2 could ask many things at once
	listener, err := net.Listen("tcp", o.listenAddress)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	if o.secureMetrics {
		// Its key takes a while to find, and the first report must not wait for it.
		certificate := sync.OnceValues(selfSigned)
		go func() { _, _ = certificate() }()
		server.TLSConfig = &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate() },
			MinVersion:     tls.VersionTLS12,
		}
	}
	go func() {
		var err error
		if server.TLSConfig != nil {
			err = server.ServeTLS(listener, "", "")
		} else {
			err = server.Serve(listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			klog.Background().Error(err, "Metrics not served any more")
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	}, nil
}

// complaints is the server's log.
type complaints struct{ limit *rate.Limiter }

// Write implements io.Writer.
func (c *complaints) Write(text []byte) (int, error) {
	if c.limit.Allow() {
		klog.Background().Info("A connection to the metrics port failed", "err", strings.TrimSpace(string(text)))
	}
	return len(text), nil
}

// selfSigned returns a certificate for this process. It keeps tokens from who listens, not from who answers in the
// agent's place; whoever must tell the two apart has to keep others from the pod network.
func selfSigned() (*tls.Certificate, error) {
	certPEM, keyPEM, err := cert.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	certificate, err := tls.X509KeyPair(certPEM, keyPEM)
	return &certificate, err
}
