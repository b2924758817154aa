// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"maps"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

const (
	// maxScript bounds a script in bytes, and maxParentheses what nests in it: the parser tries "((" twice, and its stack
	// grows with how deep a script goes.
	maxScript      = 1 << 16
	maxParentheses = 1 << 10
	// unknownText stands in a script for what cannot be known: a private character, since a shell's words hold no NUL.
	unknownText = "\ue0b7"
)

// shell follows a script from its first line to its last. It takes every branch, since nothing says which one is taken;
// a variable that a branch sets is known within it, and unknown behind it.
type shell struct {
	e *expander
	// variables are what the script sets, exported those that its commands see.
	variables map[string]string
	exported  map[string]bool
	// name is $0, and positional are $1, $2 …
	name       string
	positional []string
	// text is how many bytes expansions may still bring.
	text     int
	depth    int
	commands []command
	// broken: the script starts a shell whose script is not readable.
	broken bool
}

// script returns the simple commands of a script, in its order; false if it is not readable.
func (e *expander) script(text string, arguments []string, depth int) ([]command, bool) {
	if len(text) > maxScript || strings.Count(text, "(") > maxParentheses {
		return nil, false
	}
	text = strings.ReplaceAll(text, string(unknownMark), unknownText)
	file, err := syntax.NewParser().Parse(strings.NewReader(text), "")
	if err != nil {
		return nil, false
	}
	sh := shell{e: e, variables: map[string]string{}, exported: map[string]bool{}, text: maxText, depth: depth, name: unknownText}
	if len(arguments) > 0 {
		sh.name, sh.positional = arguments[0], arguments[1:]
	}
	sh.statements(file.Stmts)
	return sh.commands, !sh.broken
}

func (sh *shell) statements(list []*syntax.Stmt) {
	for _, s := range list {
		sh.statement(s)
	}
}

func (sh *shell) statement(s *syntax.Stmt) {
	if s == nil {
		return
	}
	switch cmd := s.Cmd.(type) {
	case *syntax.CallExpr:
		sh.call(cmd)
	case *syntax.DeclClause:
		sh.assign(cmd.Args, cmd.Variant.Value == "export")
	case *syntax.Block:
		sh.statements(cmd.Stmts)
	case *syntax.Subshell:
		sh.branch(func() { sh.statements(cmd.Stmts) })
	case *syntax.TimeClause:
		sh.statement(cmd.Stmt)
	case *syntax.CoprocClause:
		sh.branch(func() { sh.statement(cmd.Stmt) })
	case *syntax.FuncDecl:
		sh.branch(func() { sh.positional = nil; sh.statement(cmd.Body) })
	case *syntax.BinaryCmd:
		sh.binary(cmd)
	case *syntax.IfClause:
		sh.conditional(cmd)
	case *syntax.WhileClause:
		sh.branch(func() { sh.statements(cmd.Cond); sh.statements(cmd.Do) })
	case *syntax.ForClause:
		sh.branch(func() {
			if loop, ok := cmd.Loop.(*syntax.WordIter); ok {
				sh.variables[loop.Name.Value] = unknownText
			}
			sh.statements(cmd.Do)
		})
	case *syntax.CaseClause:
		for _, item := range cmd.Items {
			sh.branch(func() { sh.statements(item.Stmts) })
		}
	}
}

// binary follows "a && b", "a || b" and pipes. What the second command sets holds within the chain.
func (sh *shell) binary(cmd *syntax.BinaryCmd) {
	if cmd.Op != syntax.AndStmt {
		sh.statement(cmd.X)
		sh.branch(func() { sh.statement(cmd.Y) })
		return
	}
	sh.branch(func() { sh.chain(cmd) })
}

// chain follows "a && b && c", which is parsed as "(a && b) && c".
func (sh *shell) chain(cmd *syntax.BinaryCmd) {
	if first, ok := cmd.X.Cmd.(*syntax.BinaryCmd); ok && first.Op == syntax.AndStmt {
		sh.chain(first)
	} else {
		sh.statement(cmd.X)
	}
	sh.statement(cmd.Y)
}

func (sh *shell) conditional(cmd *syntax.IfClause) {
	for ; cmd != nil; cmd = cmd.Else {
		sh.statements(cmd.Cond)
		sh.branch(func() { sh.statements(cmd.Then) })
	}
}

// branch follows commands of which nobody knows whether they run: what they set is unknown behind them.
func (sh *shell) branch(follow func()) {
	variables, exported, positional := sh.variables, sh.exported, sh.positional
	sh.variables, sh.exported = maps.Clone(variables), maps.Clone(exported)
	follow()
	for name, value := range sh.variables {
		if old, ok := variables[name]; !ok || old != value {
			variables[name] = unknownText
		}
	}
	maps.Copy(exported, sh.exported)
	if !slices.Equal(positional, sh.positional) {
		positional = []string{unknownText}
	}
	sh.variables, sh.exported, sh.positional = variables, exported, positional
}

// call follows one simple command.
func (sh *shell) call(cmd *syntax.CallExpr) {
	if len(cmd.Args) == 0 {
		sh.assign(cmd.Assigns, false)
		return
	}
	words := sh.fields(cmd.Args)
	if len(words) == 0 {
		return
	}
	switch words[0] {
	case "set":
		if len(words) > 1 && words[1] == "--" {
			sh.positional = words[2:]
		}
		return
	case "eval":
		sh.evaluate(strings.Join(words[1:], " "))
		return
	case "echo", "printf":
		return // what they say is no start
	case "read", "unset":
		for _, name := range words[1:] {
			sh.variables[name] = unknownText
		}
		return
	}
	env := sh.environment(cmd.Assigns)
	if words[0] == "env" {
		words = passEnvironment(words[1:], env.c.Env)
	}
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], unknownText, string(unknownMark))
	}
	commands, ok := env.unwrap(words, sh.depth)
	sh.commands = append(sh.commands, commands...)
	sh.broken = sh.broken || !ok
}

// evaluate follows a command that the script puts together.
func (sh *shell) evaluate(text string) {
	if sh.depth++; sh.depth > maxShells || len(text) > maxScript || strings.Count(text, "(") > maxParentheses {
		sh.broken = true
		return
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(text), "")
	if err != nil {
		sh.broken = true
		return
	}
	sh.statements(file.Stmts)
	sh.depth--
}

// passEnvironment reads what "env" is told, and returns the command behind.
func passEnvironment(words []string, env map[string]string) []string {
	for i, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok && !strings.HasPrefix(w, "-") {
			return words[i:]
		}
		if ok {
			env[name] = value
		}
	}
	return nil
}

// assign takes over NAME=value.
func (sh *shell) assign(list []*syntax.Assign, export bool) {
	for _, a := range list {
		if a.Name == nil {
			continue
		}
		name := a.Name.Value
		if export {
			sh.exported[name] = true
		}
		if !a.Naked {
			sh.variables[name] = sh.value(a)
		}
	}
}

// value returns what is assigned.
func (sh *shell) value(a *syntax.Assign) string {
	value := ""
	switch {
	case a.Array != nil || a.Index != nil:
		return unknownText
	case a.Value != nil:
		value = sh.quoted(a.Value)
	}
	if a.Append {
		old, ok := sh.lookup(a.Name.Value)
		if !ok {
			old = unknownText
		}
		value = old + value
	}
	return value
}

// environment returns what a command sees: the container's variables, those that the script exports, and its own.
func (sh *shell) environment(own []*syntax.Assign) *expander {
	c := sh.e.c
	c.Env = maps.Clone(c.Env)
	if c.Env == nil {
		c.Env = map[string]string{}
	}
	set := func(name, value string) {
		// A dollar sign would be expanded again, as the kubelet does with the values of a pod.
		c.Env[name] = strings.ReplaceAll(strings.ReplaceAll(value, unknownText, string(unknownMark)), "$", "$$")
		if inner, ok := strings.CutPrefix(value, "$("); ok && strings.HasSuffix(inner, ")") {
			c.Env[name] = value // a reference to one of Berth's variables
		}
	}
	for name, value := range sh.variables {
		if _, inherited := sh.e.c.Env[name]; inherited || sh.exported[name] || sh.e.c.UnknownEnv[name] {
			set(name, value)
		}
	}
	for _, a := range own {
		if a.Name != nil {
			set(a.Name.Value, sh.value(a))
		}
	}
	return &expander{c: c, left: sh.e.left}
}
