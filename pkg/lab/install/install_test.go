// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-dev/berth/manifests"
)

func object(kind, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetKind(kind)
	u.SetName(name)
	return u
}

func TestSelectOrdersWhatTheLabNeeds(t *testing.T) {
	objects, err := Select([]*unstructured.Unstructured{
		object("ClusterRoleBinding", "binding"),
		object("Deployment", "workload"),
		object("ServiceAccount", "account b"),
		object("ServiceAccount", "account a"),
		object("Namespace", "namespace"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, o.GetName())
	}
	if want := []string{"namespace", "account b", "account a", "binding"}; !slices.Equal(got, want) {
		t.Errorf("objects = %q, want %q", got, want)
	}
}

func TestSelectRefusesKindsThatItDoesNotKnow(t *testing.T) {
	_, err := Select([]*unstructured.Unstructured{object("Gadget", "g1")})
	if err == nil || !strings.Contains(err.Error(), "g1") {
		t.Errorf("error = %v, want one that names g1", err)
	}
}

func TestSelectKnowsEveryKindThatIsShipped(t *testing.T) {
	objects, err := manifests.Objects(".")
	if err != nil {
		t.Fatal(err)
	}
	selected, err := Select(objects)
	if err != nil {
		t.Fatal(err)
	}
	if len(selected) == 0 {
		t.Error("the manifests hold nothing for the lab")
	}
}
