// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/klog/v2"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/version"
	"github.com/berth-dev/berth/pkg/cli/check"
	"github.com/berth-dev/berth/pkg/cli/cluster"
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
	snapshot, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	own := version.Tag()
	if tag := schedulerTag(snapshot); tag != "" && tag != own {
		snapshot.Notes = append(snapshot.Notes, fmt.Sprintf(
			"The scheduler of the cluster is of version %s, this program of %s: what they decide may differ", tag, own))
	}
	return snapshot, nil
}

func (s *source) read(ctx context.Context) (*simulator.Snapshot, error) {
	if s.file != "" {
		return snapshotfile.Read(s.file)
	}
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	namespace, err := s.namespace()
	if err != nil {
		return nil, err
	}
	return client.Snapshot(ctx, namespace)
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

// schedulerTag returns the tag of the image of the scheduler's pods; empty if there are none, or it has none.
func schedulerTag(s *simulator.Snapshot) string {
	for _, obj := range s.Objects {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.Namespace != berthv1alpha1.Namespace || pod.Labels[check.LabelName] != check.Scheduler {
			continue
		}
		if tag := check.ImageTag(pod); tag != "" {
			return tag
		}
	}
	return ""
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
