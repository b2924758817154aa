// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshotfile

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/internal/version"
	"github.com/berth-dev/berth/pkg/gpunode"
	"github.com/berth-dev/berth/pkg/simulator"
)

// list is what a file has.
type list struct {
	metav1.TypeMeta `json:",inline"`
	Items           []any `json:"items"`
}

// Write writes a snapshot, whose objects it redacts, to a file that is new or replaced: in YAML if it is named so, else in
// JSON; compressed if its name ends in .gz.
func Write(file string, s *simulator.Snapshot, replace Replace) (err error) {
	// Whoever may read it learns of all pods of the cluster.
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var out io.Writer = f
	name, zip := strings.CutSuffix(file, ".gz")
	if zip {
		zipped := gzip.NewWriter(f)
		defer func() { err = errors.Join(err, zipped.Close()) }()
		out = zipped
	}
	return Encode(out, s, replace, strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml"))
}

// Encode writes a snapshot, whose objects it redacts, with pseudonyms for names.
func Encode(out io.Writer, s *simulator.Snapshot, replace Replace, inYAML bool) error {
	objects := make([]runtime.Object, len(s.Objects))
	for i, obj := range s.Objects {
		objects[i] = keptOf(obj)
	}
	notes := slices.Clone(s.Notes)
	names := newPseudonyms(objects, notes, replace)
	if replace.Pods {
		v := &visitor{name: names.name, text: names.inText(names.name)}
		for _, obj := range objects {
			v.visit(obj)
		}
		for i := range notes {
			notes[i] = v.text(notes[i])
		}
	}
	l := list{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"}, Items: []any{Header{
		TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind}, Time: metav1.NewMicroTime(s.Time), Version: version.String(),
		SchedulerConfiguration: string(s.Config), Notes: notes, Missing: s.Missing,
	}}}
	for _, obj := range objects {
		item, err := itemOf(obj)
		if err != nil {
			return err
		}
		l.Items = append(l.Items, item)
	}
	text, err := json.Marshal(l)
	if err == nil && replace.Nodes {
		text, err = names.withoutNodes(text)
	}
	if err == nil && inYAML {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return err
	}
	_, err = out.Write(append(text, '\n'))
	return err
}

// itemOf returns an object as it is written.
func itemOf(obj runtime.Object) (any, error) {
	if o, ok := obj.(*gpunode.Object); ok {
		gn := o.GPUNode()
		if gn == nil { // it cannot be read: so it is in the file
			gn = &berthv1alpha1.GPUNode{ObjectMeta: o.ObjectMeta}
			unreadable := map[string]any{"apiVersion": berthv1alpha1.GroupVersion.String(), "kind": gpunode.Kind, "metadata": gn.ObjectMeta, "status": o.Problem}
			return unreadable, nil
		}
		gn.TypeMeta = metav1.TypeMeta{APIVersion: berthv1alpha1.GroupVersion.String(), Kind: gpunode.Kind}
		return gn, nil
	}
	if _, ok := obj.(*berthv1alpha1.ModelProfile); ok {
		obj.GetObjectKind().SetGroupVersionKind(berthv1alpha1.GroupVersion.WithKind("ModelProfile"))
	} else {
		kinds, _, err := scheme.Scheme.ObjectKinds(obj)
		if err != nil {
			return nil, err
		}
		obj.GetObjectKind().SetGroupVersionKind(kinds[0])
	}
	return obj, nil
}
