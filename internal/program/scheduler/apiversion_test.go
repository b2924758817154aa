// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestClientConfig is about where the scheduler asks for the apiserver's version: where it will work.
func TestClientConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	kubeconfig := func(host string) string {
		return write(host, "apiVersion: v1\nkind: Config\ncurrent-context: c\n"+
			"clusters: [{name: c, cluster: {server: https://"+host+"}}]\ncontexts: [{name: c, context: {cluster: c}}]\n")
	}
	config := func(name, kubeconfig string) string {
		return write(name, fmt.Sprintf("kind: KubeSchedulerConfiguration\nclientConnection: {kubeconfig: %q, qps: 5}\n", kubeconfig))
	}
	tests := []struct {
		name            string
		flags           []string
		want, wantError string
	}{
		{name: "the configuration names a kubeconfig", flags: []string{"--config=" + config("named", kubeconfig("in-config"))}, want: "https://in-config"},
		{
			name:  "a configuration wins over the flag, as in kube-scheduler",
			flags: []string{"--config=" + config("both", kubeconfig("in-config")), "--kubeconfig=" + kubeconfig("in-flag")}, want: "https://in-config",
		},
		{name: "the flag names a kubeconfig", flags: []string{"--kubeconfig=" + kubeconfig("in-flag")}, want: "https://in-flag"},
		{name: "the address is a flag", flags: []string{"--master=https://in-master", "--kubeconfig=" + kubeconfig("in-flag")}, want: "https://in-master"},
		{name: "the configuration is not there", flags: []string{"--config=" + filepath.Join(dir, "missing")}, wantError: "no such file"},
		{name: "the configuration is none", flags: []string{"--config=" + write("text", "clientConnection: [")}, wantError: "--config: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flags := pflag.NewFlagSet("scheduler", pflag.ContinueOnError)
			for _, name := range []string{"config", "kubeconfig", "master"} {
				flags.String(name, "", "")
			}
			if err := flags.Parse(tt.flags); err != nil {
				t.Fatal(err)
			}
			got, err := clientConfig(flags)
			switch {
			case tt.wantError != "":
				if err == nil || !strings.Contains(err.Error(), tt.wantError) {
					t.Errorf("error = %v, want one with %q", err, tt.wantError)
				}
			case err != nil:
				t.Error(err)
			case got.Host != tt.want:
				t.Errorf("asks %s, want %s", got.Host, tt.want)
			}
		})
	}
}
