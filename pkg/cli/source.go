// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/cli/answers"
	"github.com/berth-dev/berth/pkg/cli/cluster"
	"github.com/berth-dev/berth/pkg/cli/snapshotfile"
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

// open returns what is to be asked.
func (s *source) open() (*answers.Source, error) {
	quiet()
	out := &answers.Source{File: s.file, ReadFile: snapshotfile.Read}
	if s.file == "" {
		client, err := s.client()
		if err != nil {
			return nil, err
		}
		out.Client = client
	}
	var err error
	out.Namespace, err = s.namespace()
	return out, err
}

// client returns a client of the cluster.
func (s *source) client() (*cluster.Client, error) {
	config, err := s.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	return cluster.New(config)
}

// admission returns the admission of the cluster.
func (s *source) admission() (*cluster.Admission, error) {
	config, err := s.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	mapper, err := s.flags.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	return cluster.NewAdmission(config, mapper)
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

// printJSON prints an answer as a script would have it.
func printJSON(out io.Writer, answer any) error {
	text, err := indented(answer)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}
