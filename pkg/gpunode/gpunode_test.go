// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpunode

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

func TestObjectReadsWhatTheTypeWouldRead(t *testing.T) {
	numa, active := int32(1), metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local))
	want := berthv1alpha1.GPUNode{ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: "7"}, Status: berthv1alpha1.GPUNodeStatus{
		DriverVersion: "570", ObservedTime: active, AssignmentsUnknown: "why",
		Summary: &berthv1alpha1.GPUSummary{GPUs: 1, Model: "H100", Free: resource.MustParse("1Gi"), LargestFree: resource.MustParse("2Gi")},
		HandOff: &berthv1alpha1.HandOff{Runtimes: []berthv1alpha1.RuntimeHandOff{{Handler: "nvidia", Accepts: []berthv1alpha1.DeviceForm{"CDI"}}}},
		Devices: []berthv1alpha1.GPUDevice{{
			UUID: "GPU-a", NUMANode: &numa, Health: "Healthy", AssignedPods: nil,
			Memory:    berthv1alpha1.GPUMemory{Total: resource.MustParse("80Gi"), Reserved: resource.MustParse("1Gi"), Used: resource.MustParse("3Gi")},
			Processes: []berthv1alpha1.GPUProcess{{PodUID: "u", Memory: resource.MustParse("2Gi"), LastActiveTime: &active}},
			Links:     []berthv1alpha1.GPULink{{Peer: "GPU-b", Type: "NVLink"}},
		}},
	}}
	body, err := json.Marshal(&want)
	if err != nil {
		t.Fatal(err)
	}
	o := &Object{}
	if err := json.Unmarshal(body, o); err != nil {
		t.Fatal(err)
	}
	o.Decode()
	if diff := cmp.Diff(&want, o.GPUNode()); diff != "" || o.Raw != nil {
		t.Errorf("%s, %d bytes are kept (-want +got)\n%s", o.Problem, len(o.Raw), diff)
	}
}

// The tests below would not end if one of these reached ParseQuantity.
var bombs = []string{`"1e-2000000000"`, `"1E+99999999999"`, `"1e1.5"`, `"1e99999999999999999999"`, `"` + strings.Repeat("9", 500_000) + `"`}

func TestUnreadableStatusIsToldAndBounded(t *testing.T) {
	raws := []string{
		`{"observedTime":"2026-01-01t00:00:00z"}`, `{"observedTime":"2026-01-01T00:00:00+99:99"}`, `[]`, `{"devices":[{"uuid":7}]}`,
		`{"observedTime":"` + strings.Repeat("9", 100_000) + `"}`,
	}
	for _, bomb := range bombs {
		raws = append(raws, `{"devices":[{"uuid":"GPU-a","memory":{"total":`+bomb+`}}]}`)
	}
	for _, raw := range raws {
		o := &Object{Raw: json.RawMessage(raw)}
		o.Decode()
		if o.Problem == "" || len(o.Problem) > maxProblem+3 || o.GPUNode() != nil || o.Raw != nil {
			t.Errorf("%.60s: problem %q, GPUNode %v, %d bytes are kept", raw, o.Problem, o.GPUNode(), len(o.Raw))
		}
	}
}

// TestEachQuantityOfTheAPIIsBounded finds quantities that the types of this package forgot: it puts a bomb into each
// place that the API has for a quantity.
func TestEachQuantityOfTheAPIIsBounded(t *testing.T) {
	places := quantitiesOf(reflect.TypeFor[berthv1alpha1.GPUNodeStatus]())
	if len(places) < 6 {
		t.Fatalf("found %d quantities: %q", len(places), places)
	}
	for _, place := range places {
		for _, bomb := range bombs {
			o := &Object{Raw: json.RawMessage(strings.Replace(place, "BOMB", bomb, 1))}
			if o.Decode(); o.Problem == "" {
				t.Errorf("%s: %.40s is read", place, bomb)
			}
		}
	}
}

// quantitiesOf returns, for each resource.Quantity in a type, a document that has nothing but BOMB in its place.
func quantitiesOf(t reflect.Type) (out []string) {
	switch {
	case t == reflect.TypeFor[resource.Quantity]():
		return []string{"BOMB"}
	case t == reflect.TypeFor[metav1.Time]():
		return nil
	case t.Kind() == reflect.Pointer:
		return quantitiesOf(t.Elem())
	case t.Kind() == reflect.Slice:
		for _, q := range quantitiesOf(t.Elem()) {
			out = append(out, "["+q+"]")
		}
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			for _, q := range quantitiesOf(t.Field(i).Type) {
				out = append(out, `{"`+name+`":`+q+`}`)
			}
		}
	}
	return out
}

func TestOneUnreadableObjectLeavesTheListWhole(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	body := `{"apiVersion":"berth.dev/v1alpha1","kind":"GPUNodeList","metadata":{"resourceVersion":"9"},"items":[
		{"apiVersion":"berth.dev/v1alpha1","kind":"GPUNode","metadata":{"name":"good","managedFields":[{"manager":"m"}]},"status":{"driverVersion":"570"}},
		{"apiVersion":"berth.dev/v1alpha1","kind":"GPUNode","metadata":{"name":"bad"},"status":{"observedTime":"2026-01-01t00:00:00z"}},
		{"apiVersion":"berth.dev/v1alpha1","kind":"GPUNode","metadata":{"name":"new"}}]}`
	decoder := serializer.NewCodecFactory(scheme).WithoutConversion().DecoderToVersion(
		serializer.NewCodecFactory(scheme).UniversalDeserializer(), berthv1alpha1.GroupVersion)
	obj, err := runtime.Decode(decoder, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, item := range obj.(*List).Items {
		for range 2 { // a transform may see an object again
			if _, err := Transform(&item); err != nil {
				t.Fatal(err)
			}
		}
		switch gn := item.GPUNode(); {
		case gn == nil:
			got[item.Name] = "unreadable"
		case gn.ManagedFields != nil:
			got[item.Name] = "has field managers"
		default:
			got[item.Name] = "driver " + gn.Status.DriverVersion
		}
	}
	if diff := cmp.Diff(map[string]string{"good": "driver 570", "bad": "unreadable", "new": "driver "}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSchemeHasAllKindsOfTheAPI(t *testing.T) {
	api, own := runtime.NewScheme(), runtime.NewScheme()
	if err := berthv1alpha1.AddToScheme(api); err != nil {
		t.Fatal(err)
	}
	if err := AddToScheme(own); err != nil {
		t.Fatal(err)
	}
	for kind := range api.KnownTypes(berthv1alpha1.GroupVersion) {
		if _, ok := own.KnownTypes(berthv1alpha1.GroupVersion)[kind]; !ok {
			t.Errorf("%s is missing", kind)
		}
	}
}
