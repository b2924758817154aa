// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package requests

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	bt "github.com/berth-dev/berth/internal/testing"
)

// TestWhatIsKept: each version of a pod is read once, until it is forgotten; of pods that are gone, or ask for nothing,
// nothing is kept.
func TestWhatIsKept(t *testing.T) {
	exists := true
	r := Reader{Exists: func(*corev1.Pod) bool { return exists }}
	kept := func(pod *corev1.Pod) bool {
		_, ok := r.read.Load(pod.UID)
		return ok
	}
	pod := bt.MakePod("a").Memory("30Gi").Obj()
	first := r.Of(pod)
	if r.Of(pod.DeepCopy()) != first {
		t.Error("the same version is read again")
	}
	edited := pod.DeepCopy()
	edited.ResourceVersion += "1"
	if r.Of(edited) == first {
		t.Error("another version is not read")
	}
	if r.Forget(pod.UID); kept(pod) {
		t.Error("it is kept after it was forgotten")
	}
	if plain := bt.MakePod("plain").Obj(); !r.Of(plain).IsPlain() || kept(plain) {
		t.Error("something is kept of a pod that asks for nothing")
	}
	exists = false
	if gone := bt.MakePod("gone").Memory("30Gi").Obj(); r.Of(gone).Request == nil || kept(gone) {
		t.Error("a pod that is gone is not read, or kept")
	}
}
