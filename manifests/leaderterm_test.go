// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/pkg/berthclient"
)

// TestLeaderTerm: the apiserver refuses Bindings of a process that the LeaderTerm does not name, by either way to bind,
// and follows the term. Without one, or without a name, nothing is refused. The pod does not exist, so a Binding that
// passes is not found.
func TestLeaderTerm(t *testing.T) {
	c := needCluster(t)
	scheduler := c.as(schedulerUser, nil)
	terms, err := berthclient.New(c.controlPlane.Config())
	if err != nil {
		t.Fatal(err)
	}
	// eventually waits for what the policy's cache follows in time.
	eventually := func(what, boundBy string, legacy, refused bool) {
		t.Helper()
		var got error
		err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
			got = bind(ctx, scheduler, "nobody", legacy, func(b *corev1.Binding) {
				b.Labels = map[string]string{berthv1alpha1.LabelAllocated: "true"}
				if boundBy != "" {
					b.Annotations = map[string]string{berthv1alpha1.AnnotationBoundBy: boundBy}
				}
			})
			return refused && apierrors.IsForbidden(got) || !refused && apierrors.IsNotFound(got), nil
		})
		if err != nil {
			t.Errorf("%s: refused should be %v, got %v", what, refused, got)
		}
	}
	write := func(holder string) {
		t.Helper()
		term := &berthv1alpha1.LeaderTerm{}
		name := terms.Get().Resource("leaderterms").Name(berthv1alpha1.LeaderTermName)
		if err := name.Do(t.Context()).Into(term); apierrors.IsNotFound(err) {
			term = &berthv1alpha1.LeaderTerm{ObjectMeta: metav1.ObjectMeta{Name: berthv1alpha1.LeaderTermName}, Spec: berthv1alpha1.LeaderTermSpec{Holder: holder}}
			if err := terms.Post().Resource("leaderterms").Body(term).Do(t.Context()).Error(); err != nil {
				t.Fatal(err)
			}
			return
		} else if err != nil {
			t.Fatal(err)
		}
		term.Spec.Holder = holder
		if err := terms.Put().Resource("leaderterms").Name(term.Name).Body(term).Do(t.Context()).Error(); err != nil {
			t.Fatal(err)
		}
	}

	eventually("before there is a term", "old", false, false)
	write("old")
	for _, legacy := range []bool{false, true} {
		eventually("the one that leads", "old", legacy, false)
		eventually("another one", "new", legacy, true)
		eventually("a scheduler without leader election", "", legacy, false)
	}
	write("new")
	for _, legacy := range []bool{false, true} {
		eventually("the older leader", "old", legacy, true)
		eventually("the new one", "new", legacy, false)
	}
	if err := terms.Delete().Resource("leaderterms").Name(berthv1alpha1.LeaderTermName).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	eventually("after the term was deleted", "old", false, false)
}
