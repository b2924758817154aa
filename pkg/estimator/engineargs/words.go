// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"path"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator/flags"
)

const (
	unknownMark = flags.UnknownMark
	// maxExpansion bounds nested $(VAR) references; Kubernetes itself does not nest them through args.
	maxExpansion = 4
	// maxText bounds the text that is looked at; the API server takes about a megabyte in all.
	maxText = 1 << 18
	// maxShells bounds the shells that start shells.
	maxShells = 3
)

// expander expands references. It stops after a number of them, since references to references to nothing can be
// made to take any amount of time.
type expander struct {
	c    Container
	left int
}

func newExpander(c Container) *expander { return &expander{c: c, left: 4096} }

// command is one program that the container runs, as far as can be known.
type command struct {
	words []string
	// env are the variables that it sees.
	env *expander
}

// commands returns what the container runs: its command line with references expanded as the kubelet does, or the
// simple commands of the script that a shell is given. References to Berth's variables stay, as $(NAME). readable is
// false for a script that no shell would run, or that is too long to look at.
func (e *expander) commands() (commands []command, readable bool) {
	argv := make([]string, 0, len(e.c.Command)+len(e.c.Args))
	length := 0
	for _, list := range [2][]string{e.c.Command, e.c.Args} {
		for _, w := range list {
			if length += len(w); length > maxText {
				return nil, false
			}
			argv = append(argv, e.expand(w, 0))
		}
	}
	return e.unwrap(argv, 0)
}

// unwrap looks into a shell's script.
func (e *expander) unwrap(argv []string, depth int) (commands []command, readable bool) {
	script, positional, ok := shellScript(argv)
	if !ok {
		return []command{{words: argv, env: e}}, true
	}
	if depth == maxShells {
		return nil, false
	}
	return e.script(script, positional, depth+1)
}

// expand replaces $(VAR) by the variable's value; $$ is a dollar sign. A reference to a variable that does
// not exist stays as it is (k8s.io/kubernetes, third_party/forked/golang/expansion).
func (e *expander) expand(text string, depth int) string {
	if !strings.Contains(text, "$") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		switch text[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(text[i:], ')')
			if end < 0 {
				b.WriteByte('$')
				continue
			}
			name := text[i+2 : i+end]
			b.WriteString(e.lookup(name, text[i:i+end+1], depth))
			i += end
		default:
			b.WriteByte('$')
		}
		if b.Len() > maxText {
			break
		}
	}
	return b.String()
}

// lookup returns the value of a variable, the mark if it cannot be known, or the reference itself.
func (e *expander) lookup(name, reference string, depth int) string {
	if flags.IsBerthVariable(name) {
		return "$(" + name + ")"
	}
	if e.left--; e.left < 0 {
		return string(unknownMark)
	}
	if value, ok := e.c.Env[name]; ok && depth < maxExpansion {
		return e.expand(value, depth+1)
	}
	if e.c.UnknownEnv[name] || e.c.OpaqueEnvFrom {
		return string(unknownMark)
	}
	return reference
}

// shells are the programs whose -c takes a script.
var shells = []string{"sh", "bash", "ash", "dash", "zsh", "ksh", "busybox"}

// shellScript returns the script of "sh -c SCRIPT NAME ARGS…" and what is behind it ($0, $1 …), also behind a program that
// starts another ("exec", "nohup", "tini --").
func shellScript(argv []string) (script string, rest []string, ok bool) {
	const before = 4 // words
	for i := range min(len(argv), before) {
		if script, rest, ok = shellAt(argv[i:]); ok {
			return script, rest, true
		}
	}
	return "", nil, false
}

func shellAt(argv []string) (script string, rest []string, ok bool) {
	if len(argv) < 2 || !slices.Contains(shells, path.Base(argv[0])) {
		return "", nil, false
	}
	for i := 1; i < len(argv); i++ {
		w := argv[i]
		if len(w) > 1 && w[0] == '-' && w[1] != '-' && strings.HasSuffix(w, "c") {
			for i++; i < len(argv) && strings.HasPrefix(argv[i], "-"); i++ {
				// further options, and "--" behind them
			}
			if i == len(argv) {
				return "", nil, false
			}
			return argv[i], argv[i+1:], true
		}
		if w == "" || w[0] != '-' && w != "sh" {
			return "", nil, false
		}
	}
	return "", nil, false
}
