// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/pkg/agent/pci"
	"github.com/berth-dev/berth/pkg/agent/podlogs"
	"github.com/berth-dev/berth/pkg/agent/podresources"
)

// options are the flags. Each can be set by an environment variable too.
type options struct {
	nodeName           string
	kubeconfig         string
	nvmlLibrary        string
	procRoot           string
	sysRoot            string
	hostRoot           string
	hostFolders        []string
	nri                bool
	cdiSpecDir         string
	podResourcesSocket string
	podLogsDir         string
	stateFile          string
	listenAddress      string
	secureMetrics      bool

	readInterval   time.Duration
	reportInterval time.Duration
	leaseInterval  time.Duration
	memoryQuantum  string

	once   bool
	output string

	quantumBytes int64
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.nodeName, "node-name", "", "Name of the Node that this machine is; required without --once")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "How to reach the API server; empty = as a pod of the cluster")
	fs.StringVar(&o.nvmlLibrary, "nvml-library", "", "Path of the driver's management library; empty = libnvidia-ml.so.1 by the dynamic linker's search path")
	fs.StringVar(&o.procRoot, "proc-root", "/proc", "Where the host's proc file system is")
	fs.StringVar(&o.sysRoot, "sys-root", pci.DefaultSysRoot, "Where the host's sysfs is, which says where GPUs are attached")
	fs.StringVar(&o.hostRoot, "host-root", "", "Where the host's file system is, to find out how its container runtime is told GPUs; empty = do not look")
	fs.StringSliceVar(&o.hostFolders, "host-folders", []string{"/"}, "Folders of the host that are below --host-root; what is outside of them counts as not known")
	fs.BoolVar(&o.nri, "nri", false, "Write a CDI specification, for nodes where an NRI plugin hands GPUs to containers")
	fs.StringVar(&o.cdiSpecDir, "cdi-spec-dir", "/var/run/cdi", "Folder of the CDI specifications, for --nri")
	fs.StringVar(&o.podResourcesSocket, "pod-resources-socket", podresources.DefaultSocket, "Socket of the kubelet's PodResources API; empty = do not ask")
	fs.StringVar(&o.podLogsDir, "pod-logs-dir", podlogs.DefaultDir, "Where the kubelet keeps the logs of pods, whose folders tell the names of pods; empty = names are not known")
	fs.StringVar(&o.stateFile, "state-file", "", "Where to keep the pods of processes for the next start, on an emptyDir; empty = nowhere")
	fs.StringVar(&o.listenAddress, "listen-address", ":9401", "Address of /metrics, /healthz and /readyz; empty = none")
	fs.BoolVar(&o.secureMetrics, "secure-metrics", true, "Serve over TLS, by a certificate of its own, and /metrics only to who may get it by the API server (nonResourceURL /metrics)")
	fs.DurationVar(&o.readInterval, "read-interval", agent.DefaultReadInterval, "Time between two readings of the GPUs")
	fs.DurationVar(&o.reportInterval, "report-interval", agent.DefaultReportInterval, "Least time between two writes of the report")
	fs.DurationVar(&o.leaseInterval, "lease-interval", agent.DefaultLeaseInterval, "Time between two renewals of the Lease")
	fs.StringVar(&o.memoryQuantum, "memory-quantum", resource.NewQuantity(agent.DefaultQuantum, resource.BinarySI).String(), "By how much memory has to change to be reported")
	fs.String("overuse-margin", "", "")
	_ = fs.MarkDeprecated("overuse-margin", "it has no effect: the controller tells the owners of pods, and has a flag of this name")
	fs.BoolVar(&o.once, "once", false, "Print the report of one reading, and exit; needs no cluster")
	fs.StringVarP(&o.output, "output", "o", "yaml", "Format of --once: yaml or json")
	fs.VisitAll(func(f *pflag.Flag) { f.Usage += " [$" + envOf(f.Name) + "]" })
}

// envOf returns the environment variable that stands for a flag: NODE_NAME for --node-name.
func envOf(flag string) string {
	return strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// addEnv sets the flags that were not given from the environment.
func addEnv(fs *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		value, ok := lookup(envOf(f.Name))
		if !ok || f.Changed {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", envOf(f.Name), err))
		}
	})
	return errors.Join(errs...)
}

// complete checks the flags. All that is wrong is said at once.
func (o *options) complete() error {
	var errs []error
	if o.nodeName == "" {
		if o.once {
			o.nodeName, _ = os.Hostname()
		} else {
			errs = append(errs, errors.New("--node-name (or $NODE_NAME) is required; in a pod, set it from the field spec.nodeName"))
		}
	}
	if o.output != "yaml" && o.output != "json" {
		errs = append(errs, fmt.Errorf("--output is yaml or json, not %q", o.output))
	}
	for _, folder := range o.hostFolders {
		if !filepath.IsAbs(folder) {
			errs = append(errs, fmt.Errorf("--host-folders are folders such as /etc, not %q", folder))
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"read-interval", o.readInterval}, {"report-interval", o.reportInterval}, {"lease-interval", o.leaseInterval},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("--%s must be more than zero, such as 1s", d.flag))
		}
	}
	var err error
	if o.quantumBytes, err = bytesOf("memory-quantum", o.memoryQuantum); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func bytesOf(flag, value string) (int64, error) {
	q, err := resource.ParseQuantity(value)
	if err != nil || q.Sign() <= 0 {
		return 0, fmt.Errorf("--%s is an amount of memory such as 64Mi, not %q", flag, value)
	}
	return q.Value(), nil
}
