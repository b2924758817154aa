// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/pkg/estimator"
)

// TestShellScripts reads scripts as a shell would run them: what is not known before is unknown, never the first value
// that comes along.
func TestShellScripts(t *testing.T) {
	type said struct {
		Context int64
		Model   string
		Unknown []string
	}
	tests := []struct {
		name, script string
		env          map[string]string
		args         []string
		want         said
	}{
		{
			name:   "a start in a here-document is text",
			script: "cat > /tmp/readme <<EOF\nvllm serve m --max-model-len 1\nEOF\nvllm serve m --max-model-len 8192",
			want:   said{Context: 8192, Model: "m"},
		},
		{
			name:   "two starts that disagree are unknown",
			script: "if [ -n \"$BIG\" ]; then vllm serve m --max-model-len 4096; else vllm serve m --max-model-len 8192; fi",
			want:   said{Unknown: []string{TheScript}},
		},
		{
			name:   "two starts that agree are known",
			script: "if [ -n \"$BIG\" ]; then vllm serve m --max-model-len 4096 --port 1; else exec vllm serve m --max-model-len 4096 --port 2; fi",
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "the other value of a variable that is not set is empty",
			script: "vllm serve m --max-model-len ${A:+8192} --port 8000",
			want:   said{Model: "m"},
		},
		{
			name:   "a default within a default",
			script: "vllm serve m --max-model-len ${A:-${B:-8192}}",
			want:   said{Context: 8192, Model: "m"},
		},
		{
			name:   "a default that is assigned holds for one that is set",
			script: "vllm serve ${MODEL:=other} --max-model-len ${LEN:?say it}",
			env:    map[string]string{"MODEL": "m", "LEN": "4096"},
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "a variable of the script",
			script: "LEN=4096\nARGS=\"--max-model-len $LEN --port 1\"; ARGS+=' --enforce-eager'\nvllm serve m $ARGS",
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "a variable that a branch sets is unknown behind it",
			script: "LEN=4096\nif nvidia-smi | grep -q H100; then LEN=131072; fi\nvllm serve m --max-model-len $LEN",
			want:   said{Model: "m", Unknown: []string{"--max-model-len"}},
		},
		{
			name:   "a variable that a branch sets is known within it",
			script: "if true; then LEN=4096; vllm serve m --max-model-len $LEN; fi",
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "a chain knows what it sets",
			script: "cd /models && export LEN=4096 && exec vllm serve m --max-model-len ${LEN}",
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "arithmetic and commands are unknown",
			script: "vllm serve $(cat /model) --max-model-len $((4*1024))",
			want:   said{Unknown: []string{"--max-model-len", "--model"}},
		},
		{
			name:   "a shell within a shell",
			script: `exec bash -lc "vllm serve m --max-model-len $LEN"`,
			env:    map[string]string{"LEN": "4096"},
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "positional arguments, each a word",
			script: `set -x; exec vllm serve "$@"`,
			args:   []string{"m", "--max-model-len", "4096"},
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "positional arguments by number, and those that the script sets",
			script: `model=$1; set -- --max-model-len 4096; vllm serve "$model" "$@"`,
			args:   []string{"m"},
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "a function is followed where it stands",
			script: "serve() { vllm serve m --max-model-len 4096; }\nserve",
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "quotes, backslashes and comments",
			script: "vllm serve 'm' \\\n  --max-model-len \"40\"96 # --max-model-len 1",
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "a command that only asks is no start",
			script: "echo about to run vllm serve; vllm --version; vllm serve m --max-model-len 4096",
			want:   said{Context: 4096, Model: "m"},
		},
		{
			name:   "a script that no shell runs",
			script: "vllm serve m --max-model-len 4096 'unclosed",
			want:   said{Unknown: []string{TheScript}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Parse(estimator.RuntimeVLLM, Container{Command: append([]string{"bash", "-c", tt.script, "bash"}, tt.args...), Env: tt.env})
			if diff := cmp.Diff(tt.want, said{Context: r.Settings.ContextLength, Model: r.Model, Unknown: r.Unknown}); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatAScriptExportsReachesTheEngine(t *testing.T) {
	tests := []struct {
		name, script string
		env          map[string]string
		want         int64
	}{
		{"exported", "export OLLAMA_CONTEXT_LENGTH=8192; ollama serve", nil, 8192},
		{"before the command", "OLLAMA_CONTEXT_LENGTH=8192 exec ollama serve", nil, 8192},
		{"by env", "env -i OLLAMA_CONTEXT_LENGTH=8192 ollama serve", nil, 8192},
		{"not exported", "OLLAMA_CONTEXT_LENGTH=8192; ollama serve", nil, 0},
		{"over the container's", "OLLAMA_CONTEXT_LENGTH=8192; ollama serve", map[string]string{"OLLAMA_CONTEXT_LENGTH": "4096"}, 8192},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Parse("", Container{Command: []string{"sh", "-c"}, Args: []string{tt.script}, Env: tt.env})
			if r.Runtime != estimator.RuntimeOllama || r.Settings.ContextLength != tt.want {
				t.Errorf("Parse(%q) = %s with a context of %d, want ollama with %d", tt.script, r.Runtime, r.Settings.ContextLength, tt.want)
			}
		})
	}
}

// TestScriptsThatGrow has short texts that a shell makes long: reading them ends, and says nothing wrong.
func TestScriptsThatGrow(t *testing.T) {
	for name, script := range map[string]string{
		"braces":            "vllm serve m --port {1..999999999} --max-model-len 4096",
		"braces in braces":  "vllm serve m " + strings.Repeat("{1..999}", 20),
		"doubling":          "A=xxxxxxxxxxxxxxxx; " + strings.Repeat("A=$A$A;", 64) + "vllm serve m --max-model-len $A",
		"many long words":   "vllm serve m " + strings.Repeat("$LONG", 10_000),
		"deep parentheses":  strings.Repeat("(", maxScript/2),
		"deep substitution": strings.Repeat("$(", maxScript/3),
		"deep defaults":     "vllm serve " + strings.Repeat("${A:-", maxScript/6),
		"deep shells":       strings.Repeat("bash -c ", 20) + "x",
	} {
		t.Run(name, func(t *testing.T) {
			r := Parse(estimator.RuntimeVLLM, Container{Command: []string{"sh", "-c", script}, Env: map[string]string{"LONG": strings.Repeat("x", 10_000)}})
			if got := r.Settings.ContextLength; got != 0 {
				t.Errorf("the context is said to be %d", got)
			}
		})
	}
}
