// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/pkg/lab"
)

// monitoringFlags are those about the Prometheus beside a lab.
type monitoringFlags struct {
	on                  bool
	address, prometheus string
	scrape              []string
}

func (f *monitoringFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.on, "monitoring", false, "run Prometheus beside the lab, with Berth's alerts and recording rules; it says where it is when it is ready")
	flags.StringVar(&f.address, "monitoring-address", "127.0.0.1:9090", "address that Prometheus listens on; if the port is taken, a free one")
	flags.StringArrayVar(&f.scrape, "scrape", nil, "something else that Prometheus scrapes, as NAME=HOST:PORT, such as kube-state-metrics=127.0.0.1:8080 (repeatable)")
	flags.StringVar(&f.prometheus, "prometheus", "", "program prometheus, 2.42 or later (default: the one beside berth-lab, else the one on PATH)")
}

// options returns what is asked for; nil if nothing is.
func (f *monitoringFlags) options() (*lab.Monitoring, error) {
	if !f.on {
		if len(f.scrape) > 0 {
			return nil, errors.New("--scrape is for the Prometheus of --monitoring")
		}
		return nil, nil
	}
	if _, _, err := net.SplitHostPort(f.address); err != nil {
		return nil, fmt.Errorf("--monitoring-address: %w: it is HOST:PORT", err)
	}
	program, err := f.program()
	if err != nil {
		return nil, err
	}
	others, err := f.others()
	if err != nil {
		return nil, err
	}
	return &lab.Monitoring{Program: program, Address: f.address, Scrape: others}, nil
}

// others returns the addresses of what else is scraped, by name; nil for none.
func (f *monitoringFlags) others() (map[string]string, error) {
	var others map[string]string
	for _, s := range f.scrape {
		name, address, _ := strings.Cut(s, "=")
		if _, _, err := net.SplitHostPort(address); name == "" || err != nil {
			return nil, fmt.Errorf("--scrape: %q is not NAME=HOST:PORT, such as kube-state-metrics=127.0.0.1:8080", s)
		}
		if others == nil {
			others = map[string]string{}
		}
		others[name] = address
	}
	return others, nil
}

// program returns the file of prometheus.
func (f *monitoringFlags) program() (string, error) {
	if f.prometheus != "" {
		path, err := executable(f.prometheus)
		if err != nil {
			return "", fmt.Errorf("--prometheus: %w", err)
		}
		return path, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if path, err := executable(filepath.Join(filepath.Dir(self), "prometheus")); err == nil {
		return path, nil
	}
	path, err := exec.LookPath("prometheus")
	if err != nil {
		return "", errors.New(`--monitoring: there is no program prometheus beside berth-lab or on PATH: run "make prometheus", ` +
			`install the package prometheus of your distribution, or say by --prometheus where it is`)
	}
	return filepath.Abs(path)
}
