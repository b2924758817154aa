// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// TestLook asks what "make look" asks, in the words of its script, about the snapshot that is shipped.
func TestLook(t *testing.T) {
	folder := filepath.Join("..", "..", "hack", "look")
	script, err := os.ReadFile(filepath.Join(folder, "look.sh"))
	if err != nil {
		t.Fatal(err)
	}
	// want is what the answers have to say, in the order of the questions.
	want := [][]string{
		{"8x NVIDIA H100 80GB HBM3", "unhealthy: Xid79", "36Gi foreign", "Pending pods"},
		{"default/llama-405b-", "no node has GPUs that could ever hold the requested memory", "8 GPUs: needs 101.2Gi on one"},
		{"2 of 2 pods would be placed, and nobody evicted."},
	}
	questions := regexp.MustCompile(`(?m)^ask (.*)$`).FindAllStringSubmatch(string(script), -1)
	if len(questions) != len(want) {
		t.Fatalf("the script asks %d questions, want %d", len(questions), len(want))
	}
	for i, question := range questions {
		t.Run(question[1], func(t *testing.T) {
			var out, problems bytes.Buffer
			command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &problems})
			command.SetArgs(append(strings.Fields(question[1]), "--from", filepath.Join(folder, "cluster.json.gz")))
			if err := command.ExecuteContext(t.Context()); err != nil {
				t.Errorf("it fails: %v\n%s", err, &problems)
			}
			for _, text := range want[i] {
				if !strings.Contains(out.String(), text) {
					t.Errorf("the answer does not say %q:\n%s", text, &out)
				}
			}
		})
	}
}
