// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package engineargs

import (
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

// Engine returns the engine that a container shows by its command line, or else by its image or variables; nil if it shows
// none. Only the first is sure.
func Engine(c Container) (engine *estimator.Engine, sure bool) {
	e := newExpander(c)
	if engine = estimator.Started(e.argv()); engine != nil {
		return engine, true
	}
	return estimator.Shown(c.Image, e), false
}

// Parse reads a container. runtime is the engine if it is known, else empty or custom; it is then the one that the
// container shows.
func Parse(runtime estimator.Runtime, c Container) Result {
	e := newExpander(c)
	words := e.argv()
	engine := estimator.EngineOf(runtime)
	if engine.Name == estimator.RuntimeCustom {
		if found, _ := Engine(c); found != nil {
			engine, runtime = found, found.Name
		}
	}
	r := Result{}
	engine.Read(&flags.Scanner{Result: &r, Env: e}, words, len(c.Command) == 0)
	r.Runtime, r.Settings.Runtime = runtime, runtime
	slices.Sort(r.Unknown)
	r.Unknown = slices.Compact(r.Unknown)
	return r
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
