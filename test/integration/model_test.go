// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	berthtesting "github.com/berth-dev/berth/internal/testing"
	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestModelsThatAreLookedUp is about pods that name a model instead of an amount of memory. The hub is a local server.
func TestModelsThatAreLookedUp(t *testing.T) {
	hub := modeltest.NewServer(t, nil)
	lab := harness.Start(t, "--bare", "--controller-arg=--hf-endpoint="+hub.URL)

	t.Run("a 74 GB model of which the size is nowhere written is never placed on an 80 GB GPU with 10 GB free", func(t *testing.T) {
		report := func(foreign string) *berthv1alpha1.GPUNode {
			return berthtesting.MakeGPUNode("large").GPU("GPU-large", "81559Mi").Process("", foreign).Used(foreign).Obj()
		}
		lab.AddNode(t, berthtesting.MakeNode("large"), report("71319Mi"))
		pod := harness.Create(t, lab, berthtesting.MakePod("large").Model("hf://org/large/x.gguf").
			Runtime(berthv1alpha1.RuntimeLlamaCpp).GPUCount("1").Annotation("context-length", "8192").Obj())

		waitEvent(t, lab, pod, "ModelUnknown", "NotFound")
		if lab.Pod(t, pod).Spec.NodeName != "" {
			t.Fatal("it was placed though its size is not known")
		}
		file := modeltest.Llama70B.GGUF()
		if file.Size < 74e9 {
			t.Fatalf("the model has %d bytes only", file.Size)
		}
		hub.Add("/org/large/resolve/main/x.gguf", file)
		before := hub.Bytes()
		// An admin who does not want to wait for the next attempt.
		profile := &berthv1alpha1.ModelProfile{}
		profile.Name = berthv1alpha1.ModelProfileName("hf://org/large/x.gguf")
		lab.Delete(t, profile, -1)
		waitProfile(t, lab, profile)
		if got := hub.Bytes() - before; got >= 16<<20 {
			t.Errorf("reading the header took %d bytes, want under 16 MiB", got)
		}
		lab.WaitUnschedulable(t, pod)
		if lab.Pod(t, pod).Spec.NodeName != "" {
			t.Fatal("it was placed on a GPU that is full")
		}
		lab.Report(t, report("1Gi"))
		_, allocation := lab.WaitBound(t, pod)
		if booked := allocation.Devices[0].Memory; booked.Int64() < file.Size {
			t.Errorf("booked %s for a model of %d bytes", booked, file.Size)
		}
	})

	t.Run("a hundred pods of one model at once cost one look-up and one profile", func(t *testing.T) {
		for i := range 4 {
			name := fmt.Sprintf("many-%d", i)
			lab.AddNode(t, berthtesting.MakeNode(name), berthtesting.MakeGPUNode(name).
				GPU("GPU-"+name+"-a", "80Gi").GPU("GPU-"+name+"-b", "80Gi").Obj())
		}
		hub.Add("/org/tiny/resolve/main/x.gguf", modeltest.Tiny.GGUF())
		before := hub.Requests()
		pods := make([]*corev1.Pod, 100)
		for i := range pods {
			pods[i] = harness.Create(t, lab, berthtesting.MakePod(fmt.Sprintf("tiny-%d", i)).Model("hf://org/tiny/x.gguf").
				Runtime(berthv1alpha1.RuntimeLlamaCpp).GPUCount("1").Annotation("context-length", "1024").Obj())
		}
		for _, pod := range pods {
			lab.WaitBound(t, pod)
		}
		// One look-up asks for the listing, which this hub does not have, and for two ranges of the header.
		if got := hub.Requests() - before; got != 3 {
			t.Errorf("%d requests, want 3", got)
		}
		var profiles berthv1alpha1.ModelProfileList
		if err := lab.Client.List(t.Context(), &profiles); err != nil {
			t.Fatal(err)
		}
		found := 0
		for i := range profiles.Items {
			if strings.Contains(profiles.Items[i].Spec.Source, "tiny") {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d profiles of one model", found)
		}
	})
}

// waitProfile waits until the profile is Ready.
func waitProfile(t *testing.T, lab *harness.Lab, profile *berthv1alpha1.ModelProfile) {
	t.Helper()
	harness.Eventually(t, "profile "+profile.Name+" is Ready", func(ctx context.Context) (bool, string) {
		now := &berthv1alpha1.ModelProfile{}
		if err := lab.Client.Get(ctx, client.ObjectKeyFromObject(profile), now); err != nil {
			return false, err.Error()
		}
		return now.IsReady(), fmt.Sprintf("%+v", now.Status.Conditions)
	})
}

// waitEvent waits for an Event on the pod with a reason, and a part of its message.
func waitEvent(t *testing.T, lab *harness.Lab, pod *corev1.Pod, reason, part string) {
	t.Helper()
	harness.Eventually(t, "pod "+pod.Name+" has an Event "+reason, func(ctx context.Context) (bool, string) {
		var list eventsv1.EventList
		if err := lab.Client.List(ctx, &list, client.InNamespace(pod.Namespace)); err != nil {
			return false, err.Error()
		}
		var seen []string
		for i := range list.Items {
			e := &list.Items[i]
			if e.Regarding.UID != pod.UID {
				continue
			}
			seen = append(seen, e.Reason+": "+e.Note)
			if e.Reason == reason && strings.Contains(e.Note, part) {
				return true, ""
			}
		}
		return false, strings.Join(seen, "; ")
	})
}
