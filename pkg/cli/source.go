// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/cli/snapshotfile"
	"github.com/berth-dev/berth/pkg/simulator"
)

// source is what a command is about: a cluster, or a file with a snapshot of one.
type source struct {
	flags *genericclioptions.ConfigFlags
	file  string
	// name is the namespace of the command line.
	name string
}

func (s *source) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&s.file, "from", "", "Read the cluster from a file of kubectl berth snapshot, or of kubectl get -o yaml, instead")
	flags.StringVarP(&s.name, "namespace", "n", "", "Namespace of what names none")
}

// snapshot reads the cluster, or the file.
func (s *source) snapshot(ctx context.Context) (*simulator.Snapshot, error) {
	quiet()
	if s.file != "" {
		return snapshotfile.Read(s.file)
	}
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	return client.Snapshot(ctx)
}

// namespace returns the namespace of what names none.
func (s *source) namespace() (string, error) {
	switch {
	case s.name != "":
		return s.name, nil
	case s.file != "":
		return "default", nil
	}
	namespace, _, err := s.flags.ToRawKubeConfigLoader().Namespace()
	return namespace, err
}

// quiet turns off the log of the scheduler that is simulated, which would be on stderr.
func quiet() { klog.SetLogger(klog.Logger{}) }

func printNotes(out io.Writer, notes []string) {
	for _, note := range notes {
		fmt.Fprintln(out, "note:", note)
	}
}
