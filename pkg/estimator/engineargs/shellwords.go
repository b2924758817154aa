// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/berth-dev/berth/pkg/estimator/flags"
)

// maxFields bounds the words of a command: {1..1000000000} is a short text.
const maxFields = 1 << 12

// fields expands words as a shell does: quotes, variables, and the splitting of what is not quoted.
func (sh *shell) fields(words []*syntax.Word) []string {
	for _, w := range words {
		sh.prepare(w.Parts)
	}
	var fields []string
	for field, err := range expand.FieldsSeq(&expand.Config{Env: sh}, words...) {
		if err != nil {
			field = unknownText
		}
		if fields = append(fields, field); err != nil || len(fields) == maxFields {
			break
		}
	}
	return fields
}

// quoted expands a word without splitting it.
func (sh *shell) quoted(w *syntax.Word) string {
	sh.prepare(w.Parts)
	text, err := expand.Literal(&expand.Config{Env: sh}, w)
	if err != nil {
		return unknownText
	}
	return text
}

// prepare replaces the parts of a word that nobody can know before the container starts, and those that stand for
// one of Berth's variables.
func (sh *shell) prepare(parts []syntax.WordPart) {
	for i, part := range parts {
		switch part := part.(type) {
		case *syntax.Lit:
			if i == 0 && strings.HasPrefix(part.Value, "~") {
				parts[i] = literal(unknownText) // a home folder
			}
		case *syntax.SglQuoted:
		case *syntax.DblQuoted:
			sh.prepare(part.Parts)
		case *syntax.ParamExp:
			parts[i] = sh.parameter(part)
		case *syntax.CmdSubst:
			parts[i] = literal(unknownText)
			if name := soleWord(part); flags.IsBerthVariable(name) {
				parts[i] = literal("$(" + name + ")") // the kubelet has left it for its allocation
			}
		default:
			parts[i] = literal(unknownText)
		}
	}
}

func literal(text string) syntax.WordPart { return &syntax.SglQuoted{Value: text} }

// soleWord returns the word of "$(WORD)".
func soleWord(cmd *syntax.CmdSubst) string {
	if len(cmd.Stmts) != 1 {
		return ""
	}
	call, ok := cmd.Stmts[0].Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) != 1 {
		return ""
	}
	return call.Args[0].Lit()
}

// parameter decides about $NAME and ${NAME…}: it is left to be expanded where the answer is known.
func (sh *shell) parameter(p *syntax.ParamExp) syntax.WordPart {
	unknown := literal(unknownText)
	if p.Param == nil || p.Length || p.Excl || p.Width || p.IsSet || p.Flags != nil || p.NestedParam != nil ||
		p.Index != nil || p.Slice != nil || p.Repl != nil || p.Names != 0 || p.Modifiers != nil {
		return unknown
	}
	name := p.Param.Value
	value, set := sh.lookup(name)
	if p.Exp == nil {
		if !set && !isPositional(name) {
			return unknown // it may be set in the image
		}
		return p
	}
	if strings.Contains(value, unknownText) {
		return unknown
	}
	switch p.Exp.Op {
	case syntax.AssignUnset:
		p.Exp.Op = syntax.DefaultUnset
	case syntax.AssignUnsetOrNull:
		p.Exp.Op = syntax.DefaultUnsetOrNull
	case syntax.DefaultUnset, syntax.DefaultUnsetOrNull, syntax.AlternateUnset, syntax.AlternateUnsetOrNull:
	default: // patterns, and errors where a variable is not set
		if set && (p.Exp.Op == syntax.ErrorUnset || p.Exp.Op == syntax.ErrorUnsetOrNull) {
			p.Exp = nil
			return p
		}
		return unknown
	}
	if p.Exp.Word != nil {
		sh.prepare(p.Exp.Word.Parts)
	}
	return p
}

// isPositional says whether a parameter is one of the script's own arguments: of those, all are known.
func isPositional(name string) bool {
	_, err := strconv.Atoi(name)
	return err == nil || name == "@" || name == "*" || name == "#"
}

// lookup returns a variable of the script or of the container.
func (sh *shell) lookup(name string) (value string, ok bool) {
	c := &sh.e.c
	switch {
	case flags.IsBerthVariable(name):
		return "$(" + name + ")", true
	case isPositional(name):
		i, _ := strconv.Atoi(name)
		if name == "0" {
			return sh.name, true
		}
		if i < 1 || i > len(sh.positional) {
			return "", false
		}
		value, ok = sh.positional[i-1], true
	default:
		if value, ok = sh.variables[name]; ok {
			break
		}
		if value, ok = c.Env[name]; ok {
			value = strings.ReplaceAll(sh.e.expand(value, 0), string(unknownMark), unknownText)
		} else if c.UnknownEnv[name] || c.OpaqueEnvFrom {
			value, ok = unknownText, true
		}
	}
	if len(value) > maxText {
		value = unknownText // it grows by being assigned to itself
	}
	return value, ok
}

// Get is what the expansion of words asks. Together its answers are bounded.
func (sh *shell) Get(name string) expand.Variable {
	var list []string
	switch name {
	case "IFS":
		return expand.Variable{}
	case "@", "*":
		list = sh.positional
	case "#":
		return expand.Variable{Set: true, Kind: expand.String, Str: strconv.Itoa(len(sh.positional))}
	default:
		value, ok := sh.lookup(name)
		if !ok {
			return expand.Variable{}
		}
		list = []string{value}
	}
	for _, value := range list {
		sh.text -= len(value)
	}
	if sh.text < 0 {
		list = []string{unknownText}
	}
	if name == "@" || name == "*" {
		return expand.Variable{Set: true, Kind: expand.Indexed, List: list}
	}
	return expand.Variable{Set: true, Kind: expand.String, Str: list[0]}
}

// Each is asked by shells that start programs; nothing is started here.
func (sh *shell) Each(func(string, expand.Variable) bool) {}
