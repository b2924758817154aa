// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package whatif

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/berth-dev/berth/pkg/simulator/admission"
)

// Manifests are where manifests are read from.
type Manifests struct {
	// FilenameOptions are files, folders and URLs ("-" is Stdin), or a folder with a kustomization, as kubectl has them.
	resource.FilenameOptions
	Stdin io.Reader
	// NoFiles says that what is read comes from somebody who may not name files of this machine: then none is looked at.
	NoFiles bool
	// Admit asks a cluster what it makes of an object that makes pods; nil = nobody is asked.
	Admit func(object *unstructured.Unstructured, namespace string) (*unstructured.Unstructured, error)
}

// Given says whether there are any.
func (m *Manifests) Given() bool { return len(m.Filenames) > 0 || m.Kustomize != "" }

// AddTo adds to a question what the manifests have. namespace is that of objects that name none.
func (m *Manifests) AddTo(q *Question, namespace string) error {
	read, err := m.Read(namespace)
	if err != nil {
		return err
	}
	q.Pods, q.Beside = read.Pods, read.Beside
	slices.Sort(read.Left)
	if left := slices.Compact(read.Left); len(left) > 0 {
		q.Notes = append(q.Notes, "Of the manifests, objects of these kinds are left out: "+strings.Join(left, ", "))
	}
	return nil
}

// Objects are what manifests have.
type Objects struct {
	Pods []*corev1.Pod
	// Beside is what pods refer to and a scheduler reads: claims, volumes, classes.
	Beside []runtime.Object
	// Left are the kinds of the objects that are left out.
	Left []string
}

// Read reads manifests. namespace is that of objects that name none.
func (m *Manifests) Read(namespace string) (*Objects, error) {
	builder := resource.NewLocalBuilder().Unstructured().ContinueOnError().Flatten()
	options := m.FilenameOptions
	options.Filenames = nil
	out := &Objects{}
	rest := m.Kustomize != ""
	for _, file := range m.Filenames {
		text, err := m.text(file)
		if err != nil {
			return nil, err
		}
		folder := filepath.Dir(file)
		if m.NoFiles {
			folder = ""
		}
		pods, isModels, err := readModels(text, folder)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", file, err)
		case isModels:
			for _, pod := range pods {
				pod.Namespace = namespace
			}
			out.Pods = append(out.Pods, pods...)
		case file == "-":
			builder, rest = builder.Stream(bytes.NewReader(text), "stdin"), true
		default:
			options.Filenames, rest = append(options.Filenames, file), true
		}
	}
	if rest {
		if err := m.visit(builder, &options, out, namespace); err != nil {
			return nil, err
		}
	}
	if len(out.Pods) == 0 {
		return nil, errors.New("the manifests have no pods, and nothing that makes pods (Deployment, StatefulSet, ReplicaSet, Job, CronJob, LeaderWorkerSet)")
	}
	return out, nil
}

// text returns what is in a file; nil if it is none, but a folder, an address or nothing.
func (m *Manifests) text(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(m.Stdin)
	}
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return nil, nil
	}
	return os.ReadFile(file)
}

// visit reads the manifests that are not lists of models.
func (m *Manifests) visit(builder *resource.Builder, options *resource.FilenameOptions, out *Objects, namespace string) error {
	if len(options.Filenames) > 0 || m.Kustomize != "" {
		builder = builder.FilenameParam(false, options)
	}
	return builder.Do().Visit(func(info *resource.Info, err error) error {
		if err != nil {
			return err
		}
		object, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("%s: no object", info.Source)
		}
		if err := m.add(out, object, namespace); err != nil {
			return fmt.Errorf("%s: %s %s: %w", info.Source, object.GetKind(), object.GetName(), err)
		}
		return nil
	})
}

// add adds an object, with the pods that it makes.
func (m *Manifests) add(out *Objects, object *unstructured.Unstructured, namespace string) error {
	typed, err := typedOf(object)
	if runtime.IsNotRegisteredError(err) {
		out.Left = append(out.Left, object.GetKind())
		return nil
	}
	if err != nil {
		return err
	}
	if err := countable(object); err != nil {
		return err
	}
	pods, claims, err := admission.PodsOf(typed, namespace)
	if admission.HasNoPods(err) {
		if !isBeside(typed) {
			out.Left = append(out.Left, object.GetKind())
			return nil
		}
		if accessor, err := meta.Accessor(typed); err == nil && accessor.GetNamespace() == "" && isNamespaced(typed) {
			accessor.SetNamespace(namespace)
		}
		out.Beside = append(out.Beside, typed)
		return nil
	}
	if _, isPod := typed.(*corev1.Pod); err == nil && !isPod && m.Admit != nil {
		admitted, err := m.Admit(object, namespace)
		if err != nil {
			return err
		}
		if typed, err = typedOf(admitted); err != nil {
			return err
		}
		if pods, claims, err = admission.PodsOf(typed, namespace); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	out.Pods = append(out.Pods, pods...)
	for _, claim := range claims {
		out.Beside = append(out.Beside, claim)
	}
	return nil
}

// maxPods is how many pods can be asked about at once: each is an object here, and has a scheduling cycle.
const maxPods = 10_000

var errTooMany = fmt.Errorf("it asks for too many pods: at most %d can be asked about", maxPods)

// countable fails on an object that asks for more pods than can be asked about.
func countable(object *unstructured.Unstructured) error {
	product := int64(1)
	for _, field := range [][]string{{"spec", "replicas"}, {"spec", "completions"}, {"spec", "parallelism"}, {"spec", "leaderWorkerTemplate", "size"}} {
		n, found, err := unstructured.NestedInt64(object.Object, field...)
		if found && err == nil && (n > maxPods || n > 0 && product > maxPods/n) {
			return errTooMany
		}
		if n > 0 && field[len(field)-1] != "parallelism" { // which is how many of the completions there are at once
			product *= n
		}
	}
	return nil
}

// isBeside says whether pods refer to objects of a kind, and a scheduler reads it. A budget is not one: what it allows is
// known only once its controller has counted.
func isBeside(obj runtime.Object) bool {
	switch obj.(type) {
	case *corev1.PersistentVolume, *storagev1.StorageClass, *schedulingv1.PriorityClass, *nodev1.RuntimeClass, *resourcev1.DeviceClass:
		return true
	}
	return isNamespaced(obj)
}

// isNamespaced says which of them are in a namespace.
func isNamespaced(obj runtime.Object) bool {
	switch obj.(type) {
	case *corev1.PersistentVolumeClaim, *resourcev1.ResourceClaim, *resourcev1.ResourceClaimTemplate:
		return true
	}
	return false
}

// typedOf converts an object, and refuses fields that its kind does not have.
func typedOf(object *unstructured.Unstructured) (runtime.Object, error) {
	if object.GroupVersionKind().GroupKind() == admission.GroupKindLeaderWorkerSet {
		typed := &admission.LeaderWorkerSet{} // of which only some fields are known
		return typed, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, typed)
	}
	typed, err := scheme.Scheme.New(object.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	return typed, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, typed, true)
}
