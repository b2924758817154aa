// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// mark is how a status is shown: by a sign and, unless all is well, by a word.
type mark struct{ sign, word, colour string }

var marks = map[Status]mark{
	OK:      {"✓", "", "32"},
	Warning: {"!", "warning: ", "33"},
	Failed:  {"×", "failed: ", "31"},
	Unknown: {"?", "not checked: ", "36"},
}

// maxShown is how many objects of a result are shown; the JSON form has all.
const maxShown = 8

// Render writes a report for people, in colour if asked for.
func (r *Report) Render(out io.Writer, colour bool) error {
	var b bytes.Buffer
	for i := range r.Groups {
		g := &r.Groups[i]
		fmt.Fprintln(&b, g.Title)
		for j := range g.Checks {
			g.Checks[j].render(&b, colour)
		}
		fmt.Fprintln(&b)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(&b, "note:", note)
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(&b)
	}
	fmt.Fprintln(&b, r.summary())
	_, err := out.Write(b.Bytes())
	return err
}

func (c *Result) render(b *bytes.Buffer, colour bool) {
	m := marks[c.Status]
	sign := m.sign
	if colour {
		sign = "\x1b[" + m.colour + "m" + sign + "\x1b[0m"
	}
	fmt.Fprintf(b, "  %s %s%s\n", sign, m.word, strings.ReplaceAll(c.Message, "\n", "\n      "))
	if c.Status == OK {
		return
	}
	if len(c.Objects) > 0 {
		fmt.Fprintf(b, "      of: %s\n", shown(c.Objects))
	}
	for _, line := range c.Run {
		fmt.Fprintf(b, "      run: %s\n", line)
	}
	if c.See != "" {
		fmt.Fprintf(b, "      see: %s\n", c.See)
	}
}

func shown(objects []string) string {
	if len(objects) <= maxShown {
		return strings.Join(objects, ", ")
	}
	return strings.Join(objects[:maxShown], ", ") + fmt.Sprintf(" and %d more", len(objects)-maxShown)
}

// summary says it in one line.
func (r *Report) summary() string {
	var parts []string
	if r.Failures > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", r.Failures))
	}
	if r.Warnings > 0 {
		parts = append(parts, count(r.Warnings, "warning"))
	}
	if r.Unknown > 0 {
		parts = append(parts, fmt.Sprintf("%d could not be checked", r.Unknown))
	}
	switch {
	case len(parts) == 0:
		return "Berth is set up right."
	case r.Failures == 0:
		return "Nothing failed: " + listed(parts) + "."
	}
	return "Berth is not set up right: " + listed(parts) + "."
}
