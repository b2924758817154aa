// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package podlogs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-dev/berth/pkg/agent"
	"github.com/berth-dev/berth/pkg/agent/podlogs"
)

var _ agent.Names = podlogs.Dir("")

func TestNamesAreThoseOfTheFolders(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"default_server-0_1b2c3d4e-1111-4222-8333-444444444444",
		"kube-system_etcd-node-1_8daa50c3a64c9ff60bb9eab7b44b56fd", // a static pod: the hash of its manifest
		"a.b_c.d_u",
		"8daa50c3-1111-4222-8333-444444444444", "x_y", "x_y_z_u", "_y_u", "x__u", "x_y_", // not such folders
	} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got, err := podlogs.Dir(dir).Names()
	if err != nil {
		t.Fatal(err)
	}
	want := map[types.UID]types.NamespacedName{
		"1b2c3d4e-1111-4222-8333-444444444444": {Namespace: "default", Name: "server-0"},
		"8daa50c3a64c9ff60bb9eab7b44b56fd":     {Namespace: "kube-system", Name: "etcd-node-1"},
		"u":                                    {Namespace: "a.b", Name: "c.d"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if _, err := podlogs.Dir(filepath.Join(dir, "none")).Names(); err == nil {
		t.Error("no error without the folder")
	}
}
