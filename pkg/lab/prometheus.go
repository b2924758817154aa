// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"sigs.k8s.io/yaml"

	"github.com/berth-dev/berth/monitoring/rendered"
)

// scrapeInterval is how often Prometheus scrapes, evaluates rules, and asks what to scrape: people are watching.
const scrapeInterval = "5s"

// Monitoring is the Prometheus that runs beside a lab.
type Monitoring struct {
	// Program is the file of a prometheus, 2.42 or later.
	Program string
	// Address is where it listens, HOST:PORT. If the port is taken, a free one is.
	Address string
	// Scrape are the addresses, HOST:PORT, of other programs whose /metrics it scrapes, by the name of the job.
	Scrape map[string]string
}

// serveTargets tells Prometheus what to scrape, if there is one.
func (l *Lab) serveTargets(context.Context) error {
	if l.opts.Monitoring == nil {
		return nil
	}
	for job, address := range l.opts.Monitoring.Scrape {
		l.targets.setOther(job, address)
	}
	stop, err := l.targets.serve()
	if err != nil {
		return fmt.Errorf("tell Prometheus what to scrape: %w", err)
	}
	l.running.Go(func() {
		<-l.ctx.Done()
		stop()
	})
	return nil
}

// startPrometheus runs Prometheus with the rules, waits until it is ready, and says where it is.
func (l *Lab) startPrometheus(ctx context.Context) error {
	if l.opts.Monitoring == nil {
		return nil
	}
	dir := filepath.Join(l.dir, "prometheus")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	config, err := prometheusConfig("http://" + l.targets.address + targetsPath)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "prometheus.yaml")
	for name, text := range map[string][]byte{file: config, filepath.Join(dir, rulesFile): rendered.Rules} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return err
		}
	}
	address, taken, err := freeAddress(l.opts.Monitoring.Address)
	if err != nil {
		return fmt.Errorf("address of Prometheus: %w", err)
	}
	if taken {
		l.progress("%s is taken, so Prometheus listens on %s", l.opts.Monitoring.Address, address)
	}
	err = l.startChild("prometheus", []string{l.opts.Monitoring.Program}, func() ([]string, error) {
		return []string{
			"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address,
		}, nil
	})
	if err != nil {
		return err
	}
	url := "http://" + address
	if err := l.poll(ctx, func(ctx context.Context) (bool, error) { return answers(ctx, url+"/-/ready"), nil }); err != nil {
		return fmt.Errorf("wait for Prometheus: %w", err)
	}
	if answers(ctx, url+"/alerts") {
		l.progress("Prometheus: series %s/graph, alerts %s/alerts", url, url)
	} else {
		l.progress("Prometheus, built without its pages: series %s/api/v1/query?query=up, alerts %s/api/v1/alerts", url, url)
	}
	return nil
}

// rulesFile is the file of the rules, beside the configuration.
const rulesFile = "rules.yaml"

// prometheusConfig returns a configuration of Prometheus that scrapes what a URL tells. As in the PodMonitors, what metrics say of pods and
// namespaces stays, and certificates are not verified: each program signs its own.
func prometheusConfig(targets string) ([]byte, error) {
	return yaml.Marshal(map[string]any{
		"global":     map[string]any{"scrape_interval": scrapeInterval, "scrape_timeout": scrapeInterval, "evaluation_interval": scrapeInterval},
		"rule_files": []string{rulesFile},
		"scrape_configs": []map[string]any{{
			"job_name": "berth-lab", "honor_labels": true,
			"tls_config":      map[string]any{"insecure_skip_verify": true},
			"http_sd_configs": []map[string]any{{"url": targets, "refresh_interval": scrapeInterval}},
		}},
	})
}

// freeAddress returns an address that can be listened on: this one or, if it is taken, one with another port.
func freeAddress(address string) (free string, taken bool, err error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", false, err
	}
	listener, err := net.Listen("tcp", address)
	if taken = errors.Is(err, syscall.EADDRINUSE); taken {
		listener, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return "", taken, err
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return net.JoinHostPort(host, port), taken, err
}

// answers says whether a URL answers with 200.
func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	return resp.StatusCode == http.StatusOK
}
