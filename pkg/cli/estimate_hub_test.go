// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/modelsource/modeltest"
)

// hub serves a repository of one GGUF file, and returns how often it was asked with the token.
func hub(t *testing.T, model string) *atomic.Int32 {
	t.Helper()
	data, err := os.ReadFile(model)
	if err != nil {
		t.Fatal(err)
	}
	listing, err := json.Marshal(map[string]any{"sha": "c0ffee", "siblings": []map[string]any{{"rfilename": "m.gguf", "size": 40 << 30, "blobId": "1"}}})
	if err != nil {
		t.Fatal(err)
	}
	server := modeltest.NewServer(t, map[string]modeltest.File{
		"/api/models/org/m/revision/main": modeltest.Content(listing),
		"/org/m/resolve/c0ffee/m.gguf":    {Head: data, Size: 40 << 30},
	})
	var asked atomic.Int32
	server.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer of-the-user" {
			asked.Add(1)
		}
		return false
	}
	t.Setenv("HF_ENDPOINT", server.URL)
	t.Setenv("HF_TOKEN", "of-the-user")
	return &asked
}

func TestASourceIsReadItselfWithoutACluster(t *testing.T) {
	_, model := files(t)
	asked := hub(t, model)
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	root := NewCommand(streams)
	// Nobody listens on port 1.
	root.SetArgs([]string{"--server=http://127.0.0.1:1", "estimate", "hf://org/m/m.gguf", "-c", "8192", "--gpu-count", "1"})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "Model: llama, 8.0B parameters, Q4_K, weights as listed by the files") {
		t.Errorf("printed\n%s", out)
	}
	for _, want := range []string{"No cluster could be asked: the source itself is asked.", "Reading the headers of hf://org/m/m.gguf"} {
		if !strings.Contains(errOut.String(), want) {
			t.Errorf("no %q on standard error:\n%s", want, errOut)
		}
	}
	if asked.Load() == 0 {
		t.Error("the hub was not given HF_TOKEN")
	}
}

func TestASourceThatIsNowhereSaysWhatToDo(t *testing.T) {
	_, model := files(t)
	hub(t, model)
	for source, want := range map[string]string{
		"hf://org/absent/m.gguf": "download config.json and give --config",
		"profile://absent":       "ask the cluster for ModelProfile",
	} {
		_, err := estimate(t, source, "--server=http://127.0.0.1:1")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", source, err, want)
		}
	}
}

func TestASourceWithASecretIsRefusedWithoutShowingIt(t *testing.T) {
	for _, source := range []string{"https://host.example/x.gguf?sig=MARKER", "https://user:MARKER@host.example/x.gguf", "hf://org/m#MARKER"} {
		out, err := estimate(t, source, "--server=http://127.0.0.1:1")
		if err == nil || !strings.Contains(err.Error(), "neither a ?query") || strings.Contains(err.Error()+out, "MARKER") {
			t.Errorf("%s: error %v, printed %q", source, err, out)
		}
	}
}
