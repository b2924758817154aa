// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command release packs what a release of Berth consists of, from binaries that are there already: archives, container
// images, the chart and the manifest for krew. For that it needs no network, and the same input gives the same bytes.
// Scripts of build/ call it, and to push what was packed.
package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// A command takes its arguments, and writes its result to a file that they name, or to out.
type command func(args []string, out io.Writer) error

var commands = map[string]command{
	"archive":    archiveCommand,
	"chart":      chartCommand,
	"image":      imageCommand,
	"join":       joinCommand,
	"krew":       krewCommand,
	"licenses":   licensesCommand,
	"metadata":   metadataCommand,
	"packages":   packagesCommand,
	"provenance": provenanceCommand,
	"push":       pushCommand,
	"vendored":   vendoredCommand,
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("name a command, of %v", slices.Sorted(maps.Keys(commands)))
	}
	made, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("%q is no command; there are %v", args[0], slices.Sorted(maps.Keys(commands)))
	}
	return made(args[1:], out)
}

// common are the flags that several commands have.
type common struct {
	*flag.FlagSet
	version string
}

func flags(name string) *common {
	c := &common{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	c.StringVar(&c.version, "version", "", "version of the release, such as v0.1.0")
	return c
}

// semantic is a version as releases have it: charts and krew take no other.
var semantic = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

// parse reads the flags, all of which that are named have to be given.
func (c *common) parse(args []string, required ...string) error {
	if err := c.Parse(args); err != nil {
		return err
	}
	for _, name := range required {
		if c.Lookup(name).Value.String() == "" {
			return fmt.Errorf("%s: --%s is missing", c.Name(), name)
		}
	}
	if c.version != "" && !semantic.MatchString(c.version) {
		return fmt.Errorf("%s: %q is no version of a release, which is like v0.1.0 or v0.2.0-rc.1", c.Name(), c.version)
	}
	return nil
}

// date is the time that everything of a release is dated by: that of its commit, from SOURCE_DATE_EPOCH
// (https://reproducible-builds.org/specs/source-date-epoch/).
func date() (time.Time, error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH has to be the commit's time, in seconds since 1970: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
