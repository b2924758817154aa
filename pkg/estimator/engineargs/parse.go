// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
	"reflect"
	"slices"

	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/estimator/flags"
)

// Container is the part of a container's specification that is read.
type Container struct {
	Command, Args []string
	// Env is the variables with literal values.
	Env map[string]string
	// UnknownEnv is the variables whose values are not in the pod: from ConfigMaps, Secrets, or fields.
	UnknownEnv map[string]bool
	// OpaqueEnvFrom says that whole ConfigMaps or Secrets are imported: any variable may then have any value.
	OpaqueEnvFrom bool
}

// What is read, by the names here.
type (
	Result = flags.Result
	Number = flags.Number
	Source = flags.Source
)

const (
	Unset   = flags.Unset
	Literal = flags.Literal
	Berth   = flags.Berth
	Unknown = flags.Unknown
)

// TheScript is what Result.Unknown names where a shell's script cannot be read, or starts an engine in several ways.
const TheScript = "the shell script"

// Parse reads a container. runtime is the engine if it is known, else empty or custom; it is then taken from the
// command line.
func Parse(runtime estimator.Runtime, c Container) Result {
	commands, readable := newExpander(c).commands()
	engine := estimator.EngineOf(runtime)
	if engine.Name == estimator.RuntimeCustom {
		if found := started(commands); found != nil {
			engine, runtime = found, found.Name
		}
	}
	r := read(engine, commands, len(c.Command) == 0)
	if !readable {
		r.Unknown = append(r.Unknown, TheScript)
	}
	r.Runtime, r.Settings.Runtime = runtime, runtime
	slices.Sort(r.Unknown)
	r.Unknown = slices.Compact(r.Unknown)
	return r
}

// started returns the first engine that is started, nil if none is.
func started(commands []command) *estimator.Engine {
	for _, cmd := range commands {
		if e := estimator.Started(cmd.words); e != nil {
			return e
		}
	}
	return nil
}

// read returns what the commands that start an engine say, or the last one, which may be a script around it. Where two
// starts disagree, nothing is known.
func read(engine *estimator.Engine, commands []command, entrypoint bool) Result {
	starts := slices.DeleteFunc(slices.Clone(commands), func(cmd command) bool { return estimator.Started(cmd.words) != engine })
	if len(starts) == 0 {
		starts = commands[max(len(commands)-1, 0):]
	}
	var all Result
	for i, cmd := range starts {
		var r Result
		engine.Read(&flags.Scanner{Result: &r, Env: cmd.env}, cmd.words, entrypoint)
		if i == 0 {
			all = r
		} else if !reflect.DeepEqual(all, r) {
			return Result{Unknown: []string{TheScript}}
		}
	}
	return all
}

// Lookup returns the value of one of the container's variables.
func (e *expander) Lookup(name string) (string, bool) {
	if value, ok := e.c.Env[name]; ok {
		return e.expand(value, 0), true
	}
	return string(flags.UnknownMark), e.c.UnknownEnv[name]
}

// Opaque says that whole ConfigMaps or Secrets are imported.
func (e *expander) Opaque() bool { return e.c.OpaqueEnvFrom }

// ParseNumber reads a whole number as the engines' command lines have it: "8192", "32k" (1000), "32K" (1024).
func ParseNumber(value string) (int64, bool) { return flags.ParseNumber(value) }
