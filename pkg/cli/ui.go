// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/url"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/ui"
	"github.com/berth-dev/berth/pkg/ui/page"
)

const uiLong = `Show in a browser on this machine what the other commands say: the map of the GPUs, the pods and why they wait, where pods would go
if something were different, evictions, models, and who uses what. It is kept up to date while it is open.

The page only reads, with the rights of your kubeconfig. It is served on a loopback address until ctrl-C, to whoever has the token that
is in its address, which is printed.`

const uiExample = `  # The cluster of the kubeconfig
  kubectl berth ui --open

  # A snapshot of a cluster: no cluster is needed
  kubectl berth ui --from cluster.json.gz

  # On another machine: forward the port, and open the address that is printed
  ssh -L 8080:127.0.0.1:8080 HOST kubectl berth ui --port 8080`

// uiOptions are the flags of kubectl berth ui.
type uiOptions struct {
	genericiooptions.IOStreams
	source source
	host   string
	port   int
	open   bool
}

func newUICommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &uiOptions{IOStreams: streams, source: source{flags: flags}}
	command := &cobra.Command{
		Use:     "ui",
		Short:   "Show all of this in a browser on this machine",
		Long:    uiLong,
		Example: uiExample,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.source.addFlags(command.Flags())
	command.Flags().StringVar(&o.host, "listen", "127.0.0.1", "Loopback address to listen on")
	command.Flags().IntVar(&o.port, "port", 0, "Port to listen on; 0 = a free one")
	command.Flags().BoolVar(&o.open, "open", false, "Open the page in the browser")
	return command
}

func (o *uiOptions) run(ctx context.Context) error {
	quiet()
	world, err := o.world()
	if err != nil {
		return err
	}
	listener, err := ui.Listen(ctx, o.host, o.port)
	if err != nil {
		return err
	}
	defer listener.Close()
	token := ui.NewToken()
	server, err := ui.NewServer(world, page.Files, token, listener.Addr().String())
	if err != nil {
		return err
	}
	address := pageAddress(listener.Addr(), token)
	fmt.Fprintln(o.Out, address)
	if o.open {
		closed, err := openBrowser(address)
		if err != nil {
			fmt.Fprintln(o.ErrOut, "warning: no browser could be opened:", err)
		}
		defer closed()
	}
	ctx, cancel := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() { defer close(followed); world.Run(ctx) }()
	defer func() { cancel(); <-followed }()
	return server.Serve(ctx, listener, log.New(o.ErrOut, "", 0))
}

// world returns what is looked at.
func (o *uiOptions) world() (*ui.World, error) {
	namespace, err := o.source.namespace()
	if err != nil {
		return nil, err
	}
	if o.source.file != "" {
		return ui.OfFile(o.source.file, namespace)
	}
	config, err := o.source.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	raw, err := o.source.flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil, err
	}
	name := raw.CurrentContext
	if o.source.flags.Context != nil && *o.source.flags.Context != "" {
		name = *o.source.flags.Context
	}
	return ui.OfCluster(config, name, namespace)
}

func pageAddress(listening net.Addr, token string) string {
	address := url.URL{Scheme: "http", Host: listening.String(), Path: "/", RawQuery: url.Values{"token": {token}}.Encode()}
	return address.String()
}
