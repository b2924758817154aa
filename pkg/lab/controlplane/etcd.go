// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
)

// maxSocketPath is the longest name of a unix socket on Linux (sun_path is 108 bytes with the final zero).
const maxSocketPath = 107

// etcdQuota lets a lab of thousands of nodes run for hours without a compaction in its way.
const etcdQuota = 8 << 30

type etcd struct {
	*part
	endpoint string
}

// startEtcd starts a member of its own, reachable only through a unix socket in dir, and waits until it serves.
func startEtcd(ctx context.Context, dir, logFile string) (*etcd, error) {
	client, err := socketURL(dir, "client.sock")
	if err != nil {
		return nil, err
	}
	peer, err := socketURL(dir, "peer.sock")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "data")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync = true
	cfg.QuotaBackendBytes = etcdQuota
	// A single member elects itself when its election timeout is over; nothing gains from waiting a second.
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.LogLevel, cfg.LogOutputs = "warn", []string{logFile}

	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-e.Server.StopNotify():
		e.Close()
		return nil, errors.New("stopped while it started")
	case <-ctx.Done():
		e.Close()
		return nil, ctx.Err()
	}
	return &etcd{
		endpoint: client.String(),
		part: run("etcd", func(ctx context.Context) error {
			defer e.Close()
			select {
			case err := <-e.Err():
				return err
			case <-ctx.Done():
				return nil
			}
		}),
	}, nil
}

func socketURL(dir, name string) (url.URL, error) {
	path := filepath.Join(dir, name)
	if len(path) > maxSocketPath {
		return url.URL{}, fmt.Errorf("%s is too long for a unix socket (%d bytes, at most %d): use a shorter folder", path, len(path), maxSocketPath)
	}
	return url.URL{Scheme: "unix", Path: path}, nil
}
