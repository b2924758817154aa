// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"path"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/flags"
)

const (
	unknownMark = flags.UnknownMark
	// maxExpansion bounds nested $(VAR) references; Kubernetes itself does not nest them through args.
	maxExpansion = 4
	// maxText bounds the text that is looked at; the API server takes about a megabyte in all.
	maxText = 1 << 18
)

// expander expands references. It stops after a number of them, since references to references to nothing can be
// made to take any amount of time.
type expander struct {
	c    Container
	left int
}

func newExpander(c Container) *expander { return &expander{c: c, left: 4096} }

// argv returns the words that the engine sees: references expanded as the kubelet does, and the script of a
// shell split into words. References to Berth's variables stay, as $(NAME).
func (e *expander) argv() []string {
	c := e.c
	argv := make([]string, 0, len(c.Command)+len(c.Args))
	length := 0
	for _, list := range [2][]string{c.Command, c.Args} {
		for _, w := range list {
			if length += len(w); length > maxText {
				return argv
			}
			argv = append(argv, e.expand(w, 0))
		}
	}
	script, rest, ok := shellScript(argv)
	if !ok {
		return argv
	}
	return engineCommand(e.splitShell(script, rest))
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

// shellScript returns the script of "sh -c SCRIPT NAME ARGS…" and its positional arguments.
func shellScript(argv []string) (script string, rest []string, ok bool) {
	if len(argv) < 2 || !slices.Contains(shells, path.Base(argv[0])) {
		return "", nil, false
	}
	for i := 1; i < len(argv); i++ {
		w := argv[i]
		if len(w) > 1 && w[0] == '-' && w[1] != '-' && strings.HasSuffix(w, "c") && i+1 < len(argv) {
			if i+3 < len(argv) {
				rest = argv[i+3:] // the first is the script's $0
			}
			return argv[i+1], rest, true
		}
		if w == "" || w[0] != '-' && w != "sh" {
			return "", nil, false
		}
	}
	return "", nil, false
}

// engineCommand returns the simple command of a script that starts an engine, or the last one.
func engineCommand(commands [][]string) []string {
	for _, command := range commands {
		if estimator.Started(command) != nil {
			return command
		}
	}
	if len(commands) == 0 {
		return nil
	}
	return commands[len(commands)-1]
}

// splitShell splits a script into simple commands and words: quotes, backslashes, comments, $VAR and ${VAR:-default}
// are understood; everything computed ($(…), `…`, $((…))) becomes the mark.
func (e *expander) splitShell(script string, positional []string) [][]string {
	p := shellParser{text: script, positional: positional, e: e}
	return p.run()
}

type shellParser struct {
	text       string
	positional []string
	e          *expander
	pos        int
	word       strings.Builder
	inWord     bool
	command    []string
	commands   [][]string
}

func (p *shellParser) run() [][]string {
	for p.pos < len(p.text) {
		ch := p.text[p.pos]
		switch {
		case ch == ' ' || ch == '\t':
			p.endWord()
			p.pos++
		case ch == '\n' || ch == ';' || ch == '&' || ch == '|' || ch == '(' || ch == ')':
			p.endCommand()
			p.pos++
		case ch == '#' && !p.inWord:
			p.skipComment()
		case ch == '\\':
			p.escape()
		case ch == '\'':
			p.singleQuoted()
		case ch == '"':
			p.doubleQuoted()
		case ch == '$' || ch == '`':
			p.expansion(false)
		default:
			p.inWord = true
			p.word.WriteByte(ch)
			p.pos++
		}
	}
	p.endCommand()
	return p.commands
}

func (p *shellParser) endWord() {
	if p.inWord {
		p.command = append(p.command, p.word.String())
	}
	p.word.Reset()
	p.inWord = false
}

func (p *shellParser) endCommand() {
	p.endWord()
	if len(p.command) > 0 {
		p.commands = append(p.commands, p.command)
	}
	p.command = nil
}

func (p *shellParser) skipComment() {
	for p.pos < len(p.text) && p.text[p.pos] != '\n' {
		p.pos++
	}
}

// escape takes the character after a backslash; an escaped newline joins lines.
func (p *shellParser) escape() {
	p.pos++
	if p.pos == len(p.text) {
		return
	}
	if p.text[p.pos] != '\n' {
		p.inWord = true
		p.word.WriteByte(p.text[p.pos])
	}
	p.pos++
}

func (p *shellParser) singleQuoted() {
	p.inWord = true
	p.pos++
	end := strings.IndexByte(p.text[p.pos:], '\'')
	if end < 0 {
		end = len(p.text) - p.pos
	}
	p.word.WriteString(p.text[p.pos : p.pos+end])
	p.pos = min(p.pos+end+1, len(p.text))
}

func (p *shellParser) doubleQuoted() {
	p.inWord = true
	p.pos++
	for p.pos < len(p.text) && p.text[p.pos] != '"' {
		switch ch := p.text[p.pos]; ch {
		case '\\':
			p.pos++
			if p.pos < len(p.text) {
				p.word.WriteByte(p.text[p.pos])
				p.pos++
			}
		case '$', '`':
			p.expansion(true)
		default:
			p.word.WriteByte(ch)
			p.pos++
		}
	}
	p.pos = min(p.pos+1, len(p.text))
}

// expansion reads what begins with $ or a backquote.
func (p *shellParser) expansion(quoted bool) {
	if p.text[p.pos] == '`' {
		end := strings.IndexByte(p.text[p.pos+1:], '`')
		p.computed(p.pos + 1 + max(end, 0) + 1)
		return
	}
	rest := p.text[p.pos+1:]
	switch {
	case strings.HasPrefix(rest, "("):
		// The kubelet has left a reference to one of Berth's variables, or the shell runs a command.
		if end := strings.IndexByte(rest, ')'); end > 0 && flags.IsBerthVariable(rest[1:end]) {
			p.variable(rest[1:end], "", end+2)
			return
		}
		p.computed(p.pos + 1 + matchParenthesis(rest))
	case strings.HasPrefix(rest, "{"):
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			p.computed(len(p.text))
			return
		}
		name, fallback := rest[1:end], ""
		if i := strings.IndexAny(name, ":-=?+#%/"); i >= 0 {
			fallback = strings.TrimLeft(name[i:], ":-=")
			name = name[:i]
		}
		p.variable(name, fallback, end+2)
	case strings.HasPrefix(rest, "@") || strings.HasPrefix(rest, "*"):
		p.pos += 2
		p.inWord = true
		for i, w := range p.positional {
			if i > 0 {
				p.endWord()
				p.inWord = true
			}
			p.word.WriteString(w)
		}
	default:
		n := 0
		for n < len(rest) && (rest[n] == '_' || rest[n] >= 'A' && rest[n] <= 'Z' || rest[n] >= 'a' && rest[n] <= 'z' || n > 0 && rest[n] >= '0' && rest[n] <= '9') {
			n++
		}
		if n == 0 {
			p.inWord = true
			p.word.WriteByte('$')
			p.pos++
			return
		}
		p.variableWords(rest[:n], n+1, quoted)
	}
}

// variableWords expands $NAME; outside quotes its value is split into words, as a shell does.
func (p *shellParser) variableWords(name string, length int, quoted bool) {
	value, ok := p.e.c.Env[name]
	if quoted || !ok || !strings.ContainsAny(value, " \t\n") || flags.IsBerthVariable(name) {
		p.variable(name, "", length)
		return
	}
	p.pos += length
	for i, w := range strings.Fields(p.e.expand(value, 0)) {
		if i > 0 {
			p.endWord()
		}
		p.inWord = true
		p.word.WriteString(w)
	}
}

// variable writes the value of a variable, or its fallback, and moves on by length characters.
func (p *shellParser) variable(name, fallback string, length int) {
	p.pos += length
	p.inWord = true
	switch value, ok := p.e.c.Env[name]; {
	case flags.IsBerthVariable(name):
		p.word.WriteString("$(" + name + ")")
	case ok:
		p.word.WriteString(p.e.expand(value, 0))
	case p.e.c.UnknownEnv[name] || p.e.c.OpaqueEnvFrom || fallback == "":
		p.word.WriteRune(unknownMark) // also one set in the script, or baked into the image
	default:
		p.word.WriteString(fallback)
	}
}

// computed writes the mark for a part that the shell computes, and moves to end.
func (p *shellParser) computed(end int) {
	p.pos = min(max(end, p.pos+1), len(p.text))
	p.inWord = true
	p.word.WriteRune(unknownMark)
}

// matchParenthesis returns the length of the parenthesised text at the start of s, or all of it.
func matchParenthesis(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}
