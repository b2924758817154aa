// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package snapshotfile keeps what a scheduler reads of a cluster in a file, for whoever cannot ask the cluster.
package snapshotfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
)

// APIVersion and Kind are those of the Header.
const (
	APIVersion = "cli.berth.dev/v1alpha1"
	Kind       = "Snapshot"
)

// Header is the first item of a file: what is to be known beside the objects. A file that kubectl wrote has none.
type Header struct {
	metav1.TypeMeta `json:",inline"`
	// Time is when the snapshot was taken.
	Time metav1.MicroTime `json:"time"`
	// Version is that of the program that took it.
	Version string `json:"version,omitempty"`
	// SchedulerConfiguration is the scheduler's configuration.
	SchedulerConfiguration string   `json:"schedulerConfiguration,omitempty"`
	Notes                  []string `json:"notes,omitempty"`
	// Missing is what could not be read of what a scheduler cannot do without.
	Missing []string `json:"missing,omitempty"`
}

// Read reads a file: a List of objects, in JSON or YAML, compressed or not, of one document or of several.
func Read(file string) (*simulator.Snapshot, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func decode(in io.Reader) (*simulator.Snapshot, error) {
	buffered := bufio.NewReader(in)
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) { // too short is no gzip
		zipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, err
		}
		buffered = bufio.NewReader(zipped)
	}
	d := decoder{snapshot: &simulator.Snapshot{}, skipped: map[string]int{}}
	documents := yaml.NewYAMLOrJSONDecoder(buffered, 4096)
	for {
		var raw json.RawMessage
		err := documents.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = d.add(raw)
		}
		if err != nil {
			return nil, err
		}
	}
	return d.finish()
}

type decoder struct {
	snapshot *simulator.Snapshot
	leases   bool
	skipped  map[string]int
}

// add takes an object, or the items of a list.
func (d *decoder) add(raw json.RawMessage) error {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Items           []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return err
	}
	gvk := head.GroupVersionKind()
	switch {
	case head.Items != nil:
		for _, item := range head.Items {
			if err := d.add(item); err != nil {
				return err
			}
		}
		return nil
	case gvk == schema.FromAPIVersionAndKind(APIVersion, Kind):
		return d.header(raw)
	case head.Kind == "":
		return errors.New("an object says no kind")
	}
	obj, err := newObject(gvk)
	if err != nil {
		d.skipped[head.Kind]++
		return nil
	}
	if err := json.Unmarshal(raw, obj); err != nil {
		return fmt.Errorf("%s %s/%s: %w", head.Kind, head.Metadata.Namespace, head.Metadata.Name, err)
	}
	switch o := obj.(type) {
	case *gpunode.Object:
		o.Decode()
	case *coordinationv1.Lease:
		if o.Namespace != berthv1alpha1.Namespace {
			return nil
		}
		d.leases = true
	case *corev1.ConfigMap:
		if text := o.Data["config.yaml"]; o.Namespace == berthv1alpha1.Namespace && o.Labels["app.kubernetes.io/name"] == "berth-scheduler" && text != "" {
			d.snapshot.Config = []byte(text)
		}
		return nil
	}
	d.snapshot.Objects = append(d.snapshot.Objects, obj)
	return nil
}

func (d *decoder) header(raw json.RawMessage) error {
	var h Header
	if err := json.Unmarshal(raw, &h); err != nil {
		return err
	}
	d.snapshot.Time, d.snapshot.Notes, d.snapshot.Missing = h.Time.Time, append(d.snapshot.Notes, h.Notes...), h.Missing
	if h.SchedulerConfiguration != "" {
		d.snapshot.Config = []byte(h.SchedulerConfiguration)
	}
	return nil
}

// newObject returns an empty object of a kind that a scheduler may read.
func newObject(gvk schema.GroupVersionKind) (runtime.Object, error) {
	if gvk.Group != berthv1alpha1.GroupName {
		return scheme.Scheme.New(gvk)
	}
	own := runtime.NewScheme()
	if err := gpunode.AddToScheme(own); err != nil {
		return nil, err
	}
	return own.New(gvk)
}

func (d *decoder) finish() (*simulator.Snapshot, error) {
	s := d.snapshot
	if len(s.Objects) == 0 {
		return nil, errors.New("no objects of a cluster: make a file by kubectl berth snapshot -o FILE")
	}
	if s.Time.IsZero() {
		if s.Time = newest(s.Objects); s.Time.IsZero() {
			return nil, errors.New("it is not known when the file was made: no Lease, no report and no pod tells a time")
		}
		s.Notes = append(s.Notes, "The file does not say when it was made: it is taken to be "+s.Time.UTC().Format(time.RFC3339)+", the newest time in it")
	}
	if s.Config == nil {
		s.Notes = append(s.Notes, "The file has no configuration of the scheduler: it is taken to be as it is shipped")
	}
	if !d.leases {
		s.Notes = append(s.Notes, "The file has no Leases of the agents: all are taken to be alive")
		s.TakeForAlive()
	}
	var kinds []string
	for kind := range d.skipped {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	if len(kinds) > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("The file has objects that no scheduler reads: %v", kinds))
	}
	return s, nil
}

// newest returns the newest time that objects tell of.
func newest(objects []runtime.Object) (t time.Time) {
	later := func(o time.Time) {
		if o.After(t) {
			t = o
		}
	}
	for _, obj := range objects {
		switch o := obj.(type) {
		case *coordinationv1.Lease:
			if o.Spec.RenewTime != nil {
				later(o.Spec.RenewTime.Time)
			}
		case *gpunode.Object:
			if o.Status != nil {
				later(o.Status.ObservedTime.Time)
			}
		case *corev1.Pod:
			later(o.CreationTimestamp.Time)
			for i := range o.Status.Conditions {
				later(o.Status.Conditions[i].LastTransitionTime.Time)
			}
		}
	}
	return t
}
