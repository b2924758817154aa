// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"path"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator/flags"
	"github.com/berth-dev/berth/pkg/model"
)

// Engine is all that is known of one inference engine. Each has a file of its own (*_engine.go), and nothing outside of
// it asks which engine it is.
type Engine struct {
	// Name is the value of berth.dev/runtime. Engines that are not in model.Runtimes are recognised only.
	Name Runtime
	// Title is its name for people.
	Title string

	// Starts says whether a command line starts it, Image whether an image is made for it, Set whether variables are there
	// that only it reads; each may be nil.
	Starts func(words []string) bool
	Image  func(name, tag string) bool
	Set    func(env flags.Environment) bool
	// Release returns the release that an image is of, "" if its name and tag do not say; nil if no image says.
	Release func(name, tag string) string

	// Flags and Variables are the settings that its memory depends on.
	Flags     map[string]flags.Flag
	Variables []flags.Variable
	// Arguments returns the arguments behind the program; nil if the words are as good. entrypoint says that the image's
	// own entrypoint runs.
	Arguments func(words []string, entrypoint bool) []string
	// Settle settles what follows from several settings; may be nil.
	Settle func(s *flags.Scanner)

	// SplitsByLayers: each layer is on one GPU, so that GPUs may be of unlike models, and there is no tensor-parallel
	// size. Other engines cut every layer evenly.
	SplitsByLayers bool
	// MeasuresFreeMemory while it starts: whatever else allocates on its GPUs meanwhile makes it mis-measure.
	MeasuresFreeMemory bool
	// Counts are the numbers of GPUs to consider where nobody says; followsCount: it takes the number from the allocation.
	Counts func(followsCount bool) []int
	// Share is the fraction of each GPU that it takes unless it is told another; nil if it takes what it needs.
	Share *Share

	// size prepares an estimate.
	size func(m *Model, s *Settings, dev DeviceInfo, e *Result) (sizer, error)
}

// Share is how an engine takes a fraction of each of its GPUs.
type Share struct {
	// Flag sets the fraction (a flag, or a variable of the engine's), and Variable is the one of Berth's that tells it; empty
	// if none can.
	Flag, Variable string
	// OfFree: it is a fraction of what is free on a GPU when the engine starts, not of the GPU. NeedsModel: what it takes
	// beside the fraction is known of known models only.
	OfFree, NeedsModel bool
	// Default is the fraction when it is not told, in parts per million. dev is the zero value when the GPUs are not known.
	Default func(s *Settings, dev DeviceInfo, gpus int) int64
	// Outside is the bytes that it takes on each of its GPUs beside the fraction, and before those of them that it holds
	// before it looks at what is free, when nothing is known of the model.
	Outside func(s *Settings, dev DeviceInfo, gpus int) (outside, before int64)
}

// sizer estimates one model under one set of settings.
type sizer interface {
	// refuses says why the engine cannot use n GPUs, "" if it can.
	refuses(n int) string
	// option estimates n GPUs.
	option(n int) Option
}

// engines is the table, filled by the files of the engines.
var engines []*Engine

func register(e *Engine) *Engine {
	engines = append(engines, e)
	return e
}

// Engines returns all engines, by name.
func Engines() []*Engine {
	return slices.SortedFunc(slices.Values(engines), func(a, b *Engine) int { return strings.Compare(string(a.Name), string(b.Name)) })
}

// RuntimeNames are the names that engines can be given by.
func RuntimeNames() []string {
	names := make([]string, len(model.Runtimes))
	for i, name := range model.Runtimes {
		names[i] = string(name)
	}
	return names
}

// EngineOf returns the engine of a name: custom if it is not known.
func EngineOf(name Runtime) *Engine {
	for _, e := range engines {
		if e.Name == name {
			return e
		}
	}
	return customEngine
}

// Started returns the engine that a command line starts, nil if it shows none.
func Started(words []string) *Engine {
	for _, e := range Engines() {
		if e.Starts != nil && e.Starts(words) {
			return e
		}
	}
	return nil
}

// Shown returns the engine that an image, or else variables, show where the command line does not; nil if they show none.
func Shown(image string, env flags.Environment) *Engine {
	name, tag := nameAndTag(image)
	for _, e := range Engines() {
		if e.Image != nil && e.Image(name, tag) {
			return e
		}
	}
	for _, e := range Engines() {
		if e.Set != nil && e.Set(env) {
			return e
		}
	}
	return nil
}

// nameAndTag splits an image; a digest is neither.
func nameAndTag(image string) (name, tag string) {
	image, _, _ = strings.Cut(image, "@")
	_, tag, _ = strings.Cut(path.Base(image), ":")
	return strings.TrimSuffix(image, ":"+tag), tag
}

// ReleaseOf returns the release of the engine that an image is of, empty if it does not say.
func (e *Engine) ReleaseOf(image string) string {
	if e.Release == nil {
		return ""
	}
	return e.Release(nameAndTag(image))
}

// Read applies a command line and an environment to what is known of a container.
func (e *Engine) Read(s *flags.Scanner, words []string, entrypoint bool) {
	if e.Variables != nil {
		s.Environment(e.Variables)
	}
	if e.Arguments != nil {
		words = e.Arguments(words, entrypoint)
	}
	s.Scan(words, e.Flags)
	if e.Settle != nil {
		e.Settle(s)
	}
}

// Told says how an engine is started so that it takes what it was promised, or less.
func (s *Share) Told() string {
	if s.Variable == "" {
		return s.Flag + " with a smaller fraction, since nothing can tell it what it was promised"
	}
	return s.Flag + "=$(" + s.Variable + ") to give it what it was promised"
}
