// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/pkg/modelsource"
)

const header = "apiVersion: berth.dev/v1alpha1\nkind: ControllerConfiguration\n"

// parse reads flags as the command does.
func parse(t *testing.T, args ...string) *options {
	t.Helper()
	o := &options{}
	fs := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	o.addFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsComeOnTopOfTheFile(t *testing.T) {
	path := write(t, header+`
huggingFaceEndpoint: http://from-file:8080
ollamaEndpoint: http://ollama:8080
allowHosts: [a.example]
credentials: [{host: huggingface.co, tokenFile: /token}]
`)
	got, err := parse(t, "--config="+path, "--hf-endpoint=http://from-flag:8080", "--allow-host=b.example", "--model-root=/models").complete()
	if err != nil {
		t.Fatal(err)
	}
	want := &sources{
		APIVersion: "berth.dev/v1alpha1", Kind: configKind,
		HuggingFaceEndpoint: "http://from-flag:8080", OllamaEndpoint: "http://ollama:8080",
		AllowHosts: []string{"a.example", "b.example"}, ModelRoots: []string{"/models"},
		Credentials: []modelsource.TokenFile{{Host: "huggingface.co", Path: "/token"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if _, err := got.resolver("test"); err != nil {
		t.Error(err)
	}
}

func TestEnvironmentNamesTheHubWhereNothingElseDoes(t *testing.T) {
	t.Setenv("HF_ENDPOINT", "http://from-environment:8080")
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"alone", nil, "http://from-environment:8080"},
		{"with a flag", []string{"--hf-endpoint=http://from-flag"}, "http://from-flag"},
		{"with a file", []string{"--config=" + write(t, header+"huggingFaceEndpoint: http://from-file")}, "http://from-file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parse(t, tc.args...).complete()
			if err != nil || got.HuggingFaceEndpoint != tc.want {
				t.Errorf("got %+v, %v, want the hub %s", got, err, tc.want)
			}
		})
	}
}

func TestMistakesAreSaid(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		args       []string
		want       string
	}{
		{"a misspelt field", "denyCIDR: [10.0.0.0/8]", nil, "denyCIDR"},
		{"another kind", "kind: ConfigMap", nil, "want apiVersion berth.dev/v1alpha1"},
		{"a range that is none", "allowCIDRs: [ten]", nil, "CIDR notation"},
		{"an endpoint without a scheme", "ollamaEndpoint: mirror:8080", nil, "want http(s)://"},
		{"credentials for a URL", "credentials: [{host: 'https://huggingface.co', tokenFile: /x}]", nil, "is not a host"},
		{"credentials without a file", "credentials: [{host: huggingface.co}]", nil, "tokenFile is missing"},
		{"credentials twice", "credentials: [{host: a, tokenFile: /x}, {host: A, tokenFile: /y}]", nil, "twice"},
		{"a scheme that is not known", "credentials: [{host: a, tokenFile: /x, scheme: Digest}]", nil, "neither Bearer nor Basic"},
		{"a relative model root", "", []string{"--model-root=models"}, "absolute path"},
		{"a time of zero", "", []string{"--profile-ttl=0s"}, "--profile-ttl must be more than zero"},
		{"a lease that ends before it is renewed", "", []string{"--leader-elect-lease-duration=5s"}, "--leader-elect-lease-duration must be more"},
		{"nobody to do the work", "", []string{"--concurrent-resolutions=0"}, "at least 1"},
		{"no profiles at all", "", []string{"--profiles-per-namespace=0"}, "at least 1"},
		{"a file that is not there", "", []string{"--config=/nowhere/x.yaml"}, "no such file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := tc.args
			if tc.file != "" {
				text := header + tc.file
				if strings.HasPrefix(tc.file, "kind:") {
					text = "apiVersion: v1\n" + tc.file
				}
				args = append(args, "--config="+write(t, text))
			}
			from, err := parse(t, args...).complete()
			if err == nil {
				_, err = from.resolver("test")
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
}
