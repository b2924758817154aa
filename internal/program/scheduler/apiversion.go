// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/berth-dev/berth/internal/serverversion"
)

const flagEmulatedVersion = "emulated-version"

// emulateServer sets the flag --emulated-version to the version of the oldest apiserver of the cluster, unless it is
// given or they are as new as this program: kube-scheduler then asks for nothing that they do not serve. It has to run
// before the flags take effect (ComponentGlobalsRegistry.Set).
func emulateServer(ctx context.Context, flags *pflag.FlagSet) error {
	for _, name := range []string{flagEmulatedVersion, "version", "write-config-to"} {
		// The last two end the program before it needs a cluster.
		if flags.Changed(name) {
			return nil
		}
	}
	config, err := clientConfig(flags)
	if err != nil {
		return err
	}
	server, err := serverversion.DefaultAsking.Lowest(ctx, config)
	if err != nil {
		return err
	}
	emulated, err := serverversion.ToEmulate(compatibility.DefaultBuildEffectiveVersion().BinaryVersion(), server)
	if err != nil || emulated == "" {
		return err
	}
	klog.FromContext(ctx).Info("The apiserver is older than this scheduler, which emulates its version", "version", emulated)
	return flags.Set(flagEmulatedVersion, emulated)
}

// clientConfig returns how kube-scheduler will reach the apiserver. What else is in its configuration, and whether
// that is right, it says itself.
func clientConfig(flags *pflag.FlagSet) (*rest.Config, error) {
	value := func(name string) string {
		if f := flags.Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	kubeconfig := value("kubeconfig")
	if file := value("config"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--config: %w", err)
		}
		var config struct {
			ClientConnection struct {
				Kubeconfig string `json:"kubeconfig"`
			} `json:"clientConnection"`
		}
		if err := yaml.Unmarshal(text, &config); err != nil {
			return nil, fmt.Errorf("--config: %s: %w", file, err)
		}
		kubeconfig = config.ClientConnection.Kubeconfig
	}
	return clientcmd.BuildConfigFromFlags(value("master"), kubeconfig)
}
