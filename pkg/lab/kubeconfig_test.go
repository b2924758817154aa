// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/berth-dev/berth/pkg/lab/controlplane"
)

func TestCheckKubeconfigRefusesOnlyWhatIsNotALabs(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	labs := filepath.Join(dir, "lab")
	if err := controlplane.WriteKubeconfig(labs, &rest.Config{Host: "https://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"no file is named":              "",
		"the file does not exist":       filepath.Join(dir, "missing"),
		"the file is empty":             write("empty", ""),
		"the file is of an earlier lab": labs,
	} {
		if err := checkKubeconfig(file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, file := range map[string]string{
		"another cluster's": write("other", "apiVersion: v1\nkind: Config\nclusters: [{name: production, cluster: {server: https://x}}]\n"),
		"a lab's and another cluster's": write("both", "apiVersion: v1\nkind: Config\nclusters: [{name: production, cluster: {server: https://x}}, "+
			"{name: berth-lab, cluster: {server: https://y}}]\n"),
		"no kubeconfig": write("text", "hello: ["),
	} {
		if err := checkKubeconfig(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: error = %v, want one that names %s", name, err, file)
		}
	}
}
