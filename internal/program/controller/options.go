// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/controller"
	"github.com/berth-dev/berth/pkg/modelsource"
)

// options are the flags.
type options struct {
	kubeconfig     string
	config         string
	metricsAddress string
	healthAddress  string

	leaderElect                               bool
	leaseNamespace, leaseName                 string
	leaseDuration, renewDeadline, retryPeriod time.Duration

	// flags are the sources that flags give; they come on top of those of the configuration file.
	flags      sources
	controller controller.Options
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	o.controller = controller.DefaultOptions()
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "How to reach the API server; empty = as a pod of the cluster")
	fs.StringVar(&o.config, "config", "", "File with endpoints, hosts and credentials (kind "+configKind+", see docs/models.md); flags add to it")
	fs.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "Address of /metrics; 0 = none")
	fs.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz; 0 = none")

	fs.BoolVar(&o.leaderElect, "leader-elect", true, "Work only while holding the lease, so that several replicas can run")
	fs.StringVar(&o.leaseNamespace, "leader-elect-resource-namespace", berthv1alpha1.Namespace, "Namespace of the lease")
	fs.StringVar(&o.leaseName, "leader-elect-resource-name", "berth-controller", "Name of the lease")
	fs.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "How long a lease holds that is not renewed")
	fs.DurationVar(&o.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "How long the leader tries to renew before it gives up")
	fs.DurationVar(&o.retryPeriod, "leader-elect-retry-period", 2*time.Second, "Time between two tries for the lease")

	fs.StringVar(&o.flags.HuggingFaceEndpoint, "hf-endpoint", "", "Hub of hf:// models, or a mirror of it; default $HF_ENDPOINT, else "+modelsource.DefaultHuggingFaceEndpoint)
	fs.StringVar(&o.flags.OllamaEndpoint, "ollama-endpoint", "", "Registry of ollama:// models, or a mirror of it; default "+modelsource.DefaultOllamaEndpoint)
	fs.StringSliceVar(&o.flags.AllowHosts, "allow-host", nil, "Further host that models may be read from, as [http://]HOST[:PORT]; *.HOST stands for all below HOST (repeatable)")
	fs.BoolVar(&o.flags.NoDefaultHosts, "no-default-hosts", false, "Do not allow the public hubs by themselves")
	fs.StringSliceVar(&o.flags.AllowCIDRs, "allow-cidr", nil, "Address range that may be reached though it is not public, such as 10.96.0.0/12 (repeatable)")
	fs.StringSliceVar(&o.flags.DenyCIDRs, "deny-cidr", nil, "Address range that may not be reached though it is public or allowed (repeatable)")
	fs.StringSliceVar(&o.flags.ModelRoots, "model-root", nil, "Folder, mounted into the controller, that file:// models may be read from (repeatable)")

	c := &o.controller
	fs.DurationVar(&c.ProfileTTL, "profile-ttl", c.ProfileTTL, "How long a ModelProfile is kept that no pod names; those made by hand are kept for ever")
	fs.DurationVar(&c.FailedProfileTTL, "failed-profile-ttl", c.FailedProfileTTL, "The same for one whose model never was known, or that nothing was measured of")
	fs.DurationVar(&c.RefreshInterval, "refresh-interval", c.RefreshInterval, "How often sources are asked whether a model in use changed")
	fs.DurationVar(&c.ResolveTimeout, "resolve-timeout", c.ResolveTimeout, "How long looking up one model may take")
	fs.IntVar(&c.Concurrency, "concurrent-resolutions", c.Concurrency, "How many models are looked up at once: at most half of them of one host, and a quarter for one namespace")
	fs.IntVar(&c.ProfilesPerNamespace, "profiles-per-namespace", c.ProfilesPerNamespace, "How many ModelProfiles are made for the pods of one namespace")
	fs.Var(&bytesFlag{bytes: &c.OveruseMargin}, "overuse-margin", "By how much memory a pod may exceed its booking on a GPU before its owner is told")
	fs.BoolVar(&c.GPUMemoryResource, "gpu-memory-resource", c.GPUMemoryResource, "Make nodes advertise their GPU memory as the resource "+string(berthv1alpha1.ResourceGPUMemory)+"; without it, none does")
	fs.Var(&bytesFlag{bytes: &c.Headroom, orNone: true}, "headroom", "What of each GPU is not advertised: the scheduler's argument headroom")
	fs.BoolVar(&c.PodMetrics, "pod-metrics", c.PodMetrics, "Tell by a metric what each pod has booked: one series for each pod and GPU")
}

// complete checks the flags and reads the configuration file. It returns the sources of both.
func (o *options) complete() (*sources, error) {
	var errs []error
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"profile-ttl", o.controller.ProfileTTL}, {"failed-profile-ttl", o.controller.FailedProfileTTL},
		{"refresh-interval", o.controller.RefreshInterval}, {"resolve-timeout", o.controller.ResolveTimeout},
		{"leader-elect-retry-period", o.retryPeriod},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("--%s must be more than zero, such as 1m", d.flag))
		}
	}
	if o.leaderElect && (o.leaseDuration <= o.renewDeadline || o.renewDeadline <= o.retryPeriod) {
		errs = append(errs, errors.New("--leader-elect-lease-duration must be more than --leader-elect-renew-deadline, and that more than --leader-elect-retry-period"))
	}
	if o.controller.Concurrency < 1 {
		errs = append(errs, errors.New("--concurrent-resolutions must be at least 1"))
	}
	if o.controller.ProfilesPerNamespace < 1 {
		errs = append(errs, errors.New("--profiles-per-namespace must be at least 1"))
	}
	all := &sources{}
	if o.config != "" {
		var err error
		if all, err = readConfig(o.config); err != nil {
			return nil, errors.Join(append(errs, err)...)
		}
	}
	all.add(&o.flags)
	if all.HuggingFaceEndpoint == "" {
		all.HuggingFaceEndpoint = os.Getenv("HF_ENDPOINT") // as all tools of that hub have it
	}
	return all, errors.Join(errs...)
}

// add puts what flags say on top of s.
func (s *sources) add(flags *sources) {
	if flags.HuggingFaceEndpoint != "" {
		s.HuggingFaceEndpoint = flags.HuggingFaceEndpoint
	}
	if flags.OllamaEndpoint != "" {
		s.OllamaEndpoint = flags.OllamaEndpoint
	}
	s.AllowHosts = append(s.AllowHosts, flags.AllowHosts...)
	s.NoDefaultHosts = s.NoDefaultHosts || flags.NoDefaultHosts
	s.AllowCIDRs = append(s.AllowCIDRs, flags.AllowCIDRs...)
	s.DenyCIDRs = append(s.DenyCIDRs, flags.DenyCIDRs...)
	s.ModelRoots = append(s.ModelRoots, flags.ModelRoots...)
}
