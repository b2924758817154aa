// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/modelfile"
	"github.com/berth-dev/berth/pkg/ui"
)

// TestThePageEstimatesAsTheCommandDoes, beside what was measured.
func TestThePageEstimatesAsTheCommandDoes(t *testing.T) {
	_, file := files(t)
	model, err := modelfile.ReadPath(file)
	if err != nil {
		t.Fatal(err)
	}
	peak := func(settings estimator.Settings, devices ...string) berthv1alpha1.ObservedPeak {
		p := berthv1alpha1.ObservedPeak{Namespace: "default", Settings: settings, GPUCount: int32(len(devices)), Samples: 3}
		for _, d := range devices {
			p.Devices = append(p.Devices, resource.MustParse(d))
		}
		return p
	}
	llama := estimator.Settings{Runtime: estimator.RuntimeLlamaCpp, ContextLength: 8192}
	profiles := berthv1alpha1.ModelProfileList{
		TypeMeta: metav1.TypeMeta{APIVersion: berthv1alpha1.GroupVersion.String(), Kind: "ModelProfileList"},
		Items: []berthv1alpha1.ModelProfile{
			{ObjectMeta: metav1.ObjectMeta{Name: "known"}, Spec: berthv1alpha1.ModelProfileSpec{Source: "hf://o/m"}, Status: berthv1alpha1.ModelProfileStatus{
				Model: model, Conditions: []metav1.Condition{{Type: berthv1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
				ObservedPeaks: []berthv1alpha1.ObservedPeak{peak(llama, "4Gi", "3Gi"), peak(estimator.Settings{Runtime: estimator.RuntimeVLLM}, "70Gi")},
			}},
			{ObjectMeta: metav1.ObjectMeta{Name: "unknown"}, Spec: berthv1alpha1.ModelProfileSpec{Source: "hf://o/gone"}, Status: berthv1alpha1.ModelProfileStatus{
				Conditions:    []metav1.Condition{{Type: berthv1alpha1.ConditionReady, Status: metav1.ConditionFalse, Message: "the hub has no such model"}},
				ObservedPeaks: []berthv1alpha1.ObservedPeak{peak(llama, "4Gi")},
			}},
		},
	}
	lists := used()
	lists[profilesPath] = profiles
	server := httptest.NewServer(&api{lists: lists})
	defer server.Close()
	world, err := ui.OfCluster(&rest.Config{Host: server.URL}, "lab", "default")
	if err != nil {
		t.Fatal(err)
	}
	var got ui.Models
	code, text := (&asked{path: "/api/v1/models"}).answer(t, world)
	if err := json.Unmarshal([]byte(text), &got); err != nil || code != http.StatusOK || len(got.Models) != 2 {
		t.Fatalf("%d: %v: %s", code, err, text)
	}
	out, err := estimate(t, file, "--runtime", "llama.cpp", "--ctx-size", "8192", "--gpu-count", "2", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var said estimator.Result
	if err := json.Unmarshal([]byte(out), &said); err != nil || len(said.Options) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	known, unknown := got.Models[0], got.Models[1]
	want := []int64{said.Options[0].Devices[0].Total, said.Options[0].Devices[1].Total}
	if diff := cmp.Diff(want, known.Peaks[0].Estimate); diff != "" {
		t.Errorf("estimates (-command +page)\n%s", diff)
	}
	if p := known.Peaks[0]; !known.Ready || p.Fills || !cmp.Equal(p.Measured, []int64{4 << 30, 3 << 30}) || p.Samples != 3 || p.GPUs != 2 {
		t.Errorf("%+v", known)
	}
	if !known.Peaks[1].Fills {
		t.Error("what vLLM holds is taken for what it needs")
	}
	if unknown.Ready || unknown.Message != "the hub has no such model" || unknown.Peaks[0].Estimate != nil || unknown.Peaks[0].Problem == "" {
		t.Errorf("%+v", unknown)
	}
}
