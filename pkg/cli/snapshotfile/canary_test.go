// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshotfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-dev/berth/pkg/simulator"
)

// plant puts a canary into each string that a value can have, which sings its path.
func plant(v reflect.Value, path string) {
	switch v.Interface().(type) {
	case resource.Quantity:
		v.Set(reflect.ValueOf(resource.MustParse("1")))
		return
	case metav1.Time, metav1.MicroTime:
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("canary:" + path + ":")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		plant(v.Elem(), path)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(fmt.Append(nil, `"canary:`+path+`:"`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		plant(v.Index(0), path)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		plant(key, path+"{key}")
		plant(value, path)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				plant(v.Field(i), strings.TrimPrefix(path+"."+f.Name, "."))
			}
		}
	}
}

// TestOnlyWhatIsReadIsInAFile plants a canary into each string field of a pod, a node and more, those of later versions of
// Kubernetes too, and lists those that are in a file. Whoever adds one to testdata says why here: names, labels, selectors,
// where the pod may be, what it asks for, images and arguments are what a scheduler reads or people are shown.
func TestOnlyWhatIsReadIsInAFile(t *testing.T) {
	for name, obj := range map[string]runtime.Object{
		"pod": &corev1.Pod{}, "node": &corev1.Node{}, "volume": &corev1.PersistentVolume{}, "attachment": &storagev1.VolumeAttachment{},
		"claim": &resourcev1.ResourceClaim{}, "claimtemplate": &resourcev1.ResourceClaimTemplate{}, "lease": &coordinationv1.Lease{},
		"statefulset": &appsv1.StatefulSet{}, "service": &corev1.Service{}, "storageclass": &storagev1.StorageClass{},
	} {
		t.Run(name, func(t *testing.T) {
			plant(reflect.ValueOf(obj).Elem(), "")
			var out bytes.Buffer
			if err := Encode(&out, &simulator.Snapshot{Time: time.Now(), Objects: []runtime.Object{obj}}, Replace{}, false); err != nil {
				t.Fatal(err)
			}
			var sang []string
			for _, m := range regexp.MustCompile(`canary:([^:]*):`).FindAllStringSubmatch(out.String(), -1) {
				sang = append(sang, m[1])
			}
			slices.Sort(sang)
			got := strings.Join(slices.Compact(sang), "\n") + "\n"
			file := filepath.Join("testdata", name+".txt")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-testdata +in the file)\n%s", diff)
			}
			for _, never := range []string{"Env.Value\n", "Secret", "ConfigMap", "Probe", "Lifecycle", "Ephemeral", "ManagedFields", "Annotations"} {
				if strings.Contains(got, never) {
					t.Errorf("%s is in the file", never)
				}
			}
		})
	}
}

// TestSecretsInWhatIsKept: a variable, an argument or an address may be kept, and what is secret of it is not.
func TestSecretsInWhatIsKept(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Args: []string{"--api-key", "hush", "--hf-token=hush", "serve --api-key hush", "--url=https://me:hush@host/x?sig=hush", "https://host/x#hush"},
		Env: []corev1.EnvVar{
			{Name: "VLLM_API_KEY", Value: "hush"}, {Name: "OLLAMA_TOKEN", Value: "hush"}, {Name: "DB", Value: "$(A)hush"},
			{Name: "FROM", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "hush", LocalObjectReference: corev1.LocalObjectReference{Name: "hush"}}}},
		},
	}}}}
	pod.Annotations = map[string]string{"berth.dev/model": "https://me:hush@host/m.gguf?sig=hush", "example.com/note": "hush"}
	var out bytes.Buffer
	if err := Encode(&out, &simulator.Snapshot{Objects: []runtime.Object{pod}}, Replace{}, false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hush") {
		t.Errorf("a secret is in %s", out.String())
	}
}

// TestImageVolumesAreKept: a node that has the image is preferred.
func TestImageVolumesAreKept(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Volumes: []corev1.Volume{{
		Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "registry.test/model:1", PullPolicy: corev1.PullAlways}},
	}}}}
	want := []corev1.Volume{{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "registry.test/model:1"}}}}
	if diff := cmp.Diff(want, keptPod(pod).Spec.Volumes); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
