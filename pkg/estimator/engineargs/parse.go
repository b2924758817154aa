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
	// Image is where the command and variables that are not given come from.
	Image string
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

// Engine returns the engine that a container shows by its command line, or else by its image or variables; nil if it shows
// none. Only the first is sure.
func Engine(c Container) (engine *estimator.Engine, sure bool) {
	e := newExpander(c)
	commands, _ := e.commands()
	return e.engine(commands)
}

func (e *expander) engine(commands []command) (engine *estimator.Engine, sure bool) {
	for _, cmd := range commands {
		if engine = estimator.Started(cmd.words); engine != nil {
			return engine, true
		}
	}
	return estimator.Shown(e.c.Image, e), false
}

// Parse reads a container. runtime is the engine if it is known, else empty or custom; it is then the one that the
// container shows.
func Parse(runtime estimator.Runtime, c Container) Result {
	e := newExpander(c)
	commands, readable := e.commands()
	engine := estimator.EngineOf(runtime)
	if engine.Name == estimator.RuntimeCustom {
		if found, _ := e.engine(commands); found != nil {
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
