// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/test/integration/harness"
)

var update = flag.Bool("update", false, "write the lists of permissions instead of comparing them")

// TestAccountsCanDoWhatIsListed asks the apiserver what each account can do, in Berth's namespace and in any other,
// and compares it with the list that was reviewed.
func TestAccountsCanDoWhatIsListed(t *testing.T) {
	c := needCluster(t)
	if os.Getenv(harness.EnvKubeAPIServer) != "" {
		t.Skip("the lists have what Kubernetes of the linked version itself lets every account do")
	}
	for _, account := range []string{"berth-scheduler", "berth-controller", "berth-agent"} {
		t.Run(account, func(t *testing.T) {
			config, err := c.controlPlane.ServiceAccountConfig(t.Context(), berthv1alpha1.Namespace, account, nil)
			if err != nil {
				t.Fatal(err)
			}
			client := kubernetes.NewForConfigOrDie(config)
			var lines []string
			for _, namespace := range []string{berthv1alpha1.Namespace, metav1.NamespaceDefault} {
				review, err := client.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(),
					&authorizationv1.SelfSubjectRulesReview{
						Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
					}, metav1.CreateOptions{})
				if err != nil {
					t.Fatal(err)
				}
				lines = append(lines, "in namespace "+namespace+":")
				lines = append(lines, resourceRules(review.Status.ResourceRules)...)
			}
			got := strings.Join(lines, "\n") + "\n"
			file := filepath.Join("testdata", "permissions", account+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("permissions (-listed +actual), see -update:\n%s", diff)
			}
		})
	}
}

// resourceRules writes one line for each resource, sorted: resource.group [names]: verbs.
func resourceRules(rules []authorizationv1.ResourceRule) []string {
	var lines []string
	for _, rule := range rules {
		verbs := slices.Sorted(slices.Values(rule.Verbs))
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				if group != "" {
					resource += "." + group
				}
				names := ""
				if len(rule.ResourceNames) > 0 {
					names = fmt.Sprint(" ", rule.ResourceNames)
				}
				lines = append(lines, "  "+resource+names+": "+strings.Join(verbs, " "))
			}
		}
	}
	slices.Sort(lines)
	return lines
}
