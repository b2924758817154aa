// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpunode

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

// listOf is a list of GPUNodes of 8 GPUs, as the apiserver sends it: 8 processes on each GPU, links between all of them,
// and field managers.
func listOf(b *testing.B, nodes int) []byte {
	at := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	list := berthv1alpha1.GPUNodeList{Items: make([]berthv1alpha1.GPUNode, nodes)}
	list.APIVersion, list.Kind = berthv1alpha1.GroupVersion.String(), Kind+"List"
	for i := range list.Items {
		gn := &list.Items[i]
		gn.TypeMeta = metav1.TypeMeta{APIVersion: berthv1alpha1.GroupVersion.String(), Kind: Kind}
		gn.ObjectMeta = metav1.ObjectMeta{
			Name: fmt.Sprintf("node-%d", i), UID: types.UID(fmt.Sprintf("6f8b8f9e-3c1d-4a6e-9b51-%012d", i)), ResourceVersion: fmt.Sprint(i),
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "berth-agent", Operation: metav1.ManagedFieldsOperationApply, Subresource: "status", Time: &at,
				FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:devices":{},"f:driverVersion":{},"f:observedTime":{},"f:summary":{}}}`),
			}},
		}
		gn.Status.DriverVersion, gn.Status.ObservedTime = "580.65.06", at
		for d := range 8 {
			device := berthv1alpha1.GPUDevice{
				UUID: uuid(i, d), Index: int32(d), Model: "NVIDIA H100 80GB HBM3", Health: berthv1alpha1.DeviceHealthy,
				Memory: berthv1alpha1.GPUMemory{Total: resource.MustParse("81559Mi"), Reserved: resource.MustParse("617Mi"), Used: resource.MustParse("20Gi")},
			}
			for p := range 8 {
				device.Processes = append(device.Processes, berthv1alpha1.GPUProcess{
					PodUID: types.UID(uuid(i, 8*d+p)), Memory: resource.MustParse("2560Mi"), Active: p%2 == 0, LastActiveTime: &at,
				})
			}
			for peer := range 8 {
				if peer != d {
					device.Links = append(device.Links, berthv1alpha1.GPULink{Peer: uuid(i, peer), Type: berthv1alpha1.LinkNVLink})
				}
			}
			gn.Status.Devices = append(gn.Status.Devices, device)
		}
	}
	text, err := json.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	return text
}

func uuid(node, n int) string {
	return fmt.Sprintf("GPU-%08x-3c1d-4a6e-9b51-%012x", node, n)
}

// decoder reads what the apiserver sends into the types of a scheme, as a client does.
func decoder(b *testing.B, add func(*kruntime.Scheme) error) kruntime.Decoder {
	scheme := kruntime.NewScheme()
	if err := add(scheme); err != nil {
		b.Fatal(err)
	}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	return codecs.DecoderToVersion(serializer.NewCodecFactory(scheme).UniversalDeserializer(), berthv1alpha1.GroupVersion)
}

// BenchmarkList decodes the first list of an informer, and transforms it: with each object apart, as Berth does; with the
// typed list, which one bad object makes fail as a whole; and without types, as a dynamic informer does. live-B is what
// stays in memory.
func BenchmarkList(b *testing.B) {
	apart, typed := decoder(b, AddToScheme), decoder(b, berthv1alpha1.AddToScheme)
	for _, nodes := range []int{500, 5000} {
		text := listOf(b, nodes)
		for _, way := range []struct {
			name    string
			decoder kruntime.Decoder
		}{{"apart", apart}, {"typed", typed}, {"untyped", unstructured.UnstructuredJSONScheme}} {
			b.Run(fmt.Sprintf("%s/nodes=%d", way.name, nodes), func(b *testing.B) {
				b.ReportAllocs()
				var kept kruntime.Object
				before := live()
				for b.Loop() {
					kept = nil
					list, err := kruntime.Decode(way.decoder, text)
					if err != nil {
						b.Fatal(err)
					}
					err = meta.EachListItem(list, func(item kruntime.Object) error {
						accessor, err := meta.Accessor(item)
						if err == nil {
							accessor.SetManagedFields(nil)
							_, err = Transform(item)
						}
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
					kept = list
				}
				b.ReportMetric(float64(live()-before), "live-B")
				runtime.KeepAlive(kept)
			})
		}
	}
}

// live is the bytes of the heap that are in use.
func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
