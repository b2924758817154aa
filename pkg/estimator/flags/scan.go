// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import "strings"

// Scanner applies flags and variables to a result.
type Scanner struct {
	*Result
	// Env is where the values of variables come from.
	Env Environment
	// OwnDraft: llama.cpp is told to use the model's own prediction layers.
	OwnDraft bool
}

// Environment is the variables of a container.
type Environment interface {
	// Lookup returns the value of a variable, and whether it is set. UnknownMark stands for what cannot be known.
	Lookup(name string) (value string, ok bool)
	// Opaque says that any variable may be set to anything besides.
	Opaque() bool
}

// Flag is one setting of an engine.
type Flag struct {
	// value says whether the flag takes one: needed, never, or optional (taken if the next word is no flag).
	value arity
	apply func(s *Scanner, name, value string)
	// names are all of its names.
	names string
}

type arity int

const (
	noValue arity = iota
	oneValue
	maybeValue
)

// One returns a flag that takes a value.
func One(apply func(s *Scanner, name, value string)) Flag { return Flag{value: oneValue, apply: apply} }

// None returns a flag that takes none.
func None(apply func(s *Scanner, name, value string)) Flag { return Flag{value: noValue, apply: apply} }

// Maybe returns a flag that takes the next word if that is no flag.
func Maybe(apply func(s *Scanner, name, value string)) Flag {
	return Flag{value: maybeValue, apply: apply}
}

// Table makes a table of flags with an entry for each of the names in a key.
func Table(table map[string]Flag) map[string]Flag {
	out := make(map[string]Flag, 2*len(table))
	for names, f := range table {
		f.names = names
		for name := range strings.FieldsSeq(names) {
			out[name] = f
		}
	}
	return out
}

// AnyWord is what Result.Unknown names where a word of the command cannot be known, so that it may be any flag.
const AnyWord = "a word of the command"

// find returns the flag of a name, or of the beginning of a long one: Python's argparse takes what is not ambiguous. Of an
// engine that takes no beginnings, a command with one does not start.
func find(table map[string]Flag, name string) (Flag, bool) {
	name = canonicalFlag(name)
	if f, ok := table[name]; ok || len(name) < len("--")+2 || !strings.HasPrefix(name, "--") {
		return f, ok
	}
	var found Flag
	for full, f := range table {
		switch {
		case !strings.HasPrefix(full, name):
		case found.apply == nil:
			found = f
		case found.names != f.names:
			return Flag{}, false
		}
	}
	return found, found.apply != nil
}

// Scan reads words as flags; what it does not know it passes over, a value at a time.
func (s *Scanner) Scan(words []string, table map[string]Flag) {
	for i := 0; i < len(words); i++ {
		w := words[i]
		if strings.HasPrefix(w, string(UnknownMark)) {
			s.MarkUnknown(AnyWord)
		}
		if len(w) < 2 || w[0] != '-' {
			continue
		}
		name, value, hasValue := strings.Cut(w, "=")
		f, ok := find(table, name)
		if !ok {
			continue
		}
		if !hasValue && f.value != noValue && i+1 < len(words) && (f.value == oneValue || !looksLikeFlag(words[i+1])) {
			i++
			value, hasValue = words[i], true
		}
		if f.value == oneValue && !hasValue {
			continue
		}
		f.apply(s, name, value)
	}
}

// canonicalFlag writes a long flag with hyphens: engines take underscores as well.
func canonicalFlag(name string) string {
	if strings.HasPrefix(name, "--") && strings.ContainsRune(name, '_') {
		return strings.ReplaceAll(name, "_", "-")
	}
	return name
}

// looksLikeFlag tells "-ub" from "-1".
func looksLikeFlag(w string) bool {
	return len(w) > 1 && w[0] == '-' && (w[1] < '0' || w[1] > '9')
}

// Variable is an environment variable that sets what a flag sets.
type Variable struct {
	name  string
	apply func(s *Scanner, name, value string)
}

// Var returns a variable.
func Var(name string, apply func(s *Scanner, name, value string)) Variable {
	return Variable{name, apply}
}

// Environment applies variables that stand for flags.
func (s *Scanner) Environment(variables []Variable) {
	for _, v := range variables {
		if value, ok := s.Env.Lookup(v.name); ok {
			v.apply(s, v.name, value)
		}
	}
	if s.Env.Opaque() {
		s.MarkUnknown("envFrom")
	}
}

// MarkUnknown notes that the value of a setting cannot be known.
func (s *Scanner) MarkUnknown(name string) { s.Unknown = append(s.Unknown, name) }

// MarkInvalid notes a value that makes no sense to the engine.
func (s *Scanner) MarkInvalid(name, value string) {
	const most = 16
	if len(s.Invalid) < most {
		s.Invalid = append(s.Invalid, name+" "+Shorten(value))
	}
}

// Shorten returns a value that came from a stranger, cut to a reasonable length.
func Shorten(value string) string {
	const most = 64
	if len(value) > most {
		return value[:most] + "…"
	}
	return value
}
