// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/berth-dev/berth/pkg/lab/child"
)

// externalAPIServer returns what startAPIServer is for a program: it runs as a child process and logs to a file.
func externalAPIServer(program, logFile string) func(keys *pki, etcdEndpoint string, extra []string) (*part, int, error) {
	return func(keys *pki, etcdEndpoint string, extra []string) (*part, int, error) {
		port, err := freePort()
		if err != nil {
			return nil, 0, err
		}
		log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
		if err != nil {
			return nil, 0, err
		}
		process := &child.Process{
			Name: "kube-apiserver", Path: program, Output: log,
			Args: func() ([]string, error) { return append(apiserverArgs(keys, etcdEndpoint, port), extra...), nil },
		}
		return run("kube-apiserver", func(ctx context.Context) error {
			defer log.Close()
			if err := process.Once(ctx); err != nil {
				return fmt.Errorf("%w, see %s", err, logFile)
			}
			return nil
		}), port, nil
	}
}

// freePort returns a port of the loopback that nobody listens on. Should somebody do so before the apiserver does, the
// apiserver ends, and so does the start of the control plane.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
