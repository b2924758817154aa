// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// paint is how text looks on a terminal: SGR parameters.
type paint string

const (
	paintPlain   paint = ""
	paintBold    paint = "1"
	paintDim     paint = "2"
	paintForeign paint = "7"
)

// palette is the colours of pods: those of Okabe and Ito, which people with any kind of colour vision can tell apart,
// as the nearest of xterm's 256 colours. A pod also has a letter, so no colour has to be told.
var palette = []struct {
	background, letter int
}{
	{214, 16}, // orange
	{74, 16},  // sky blue
	{36, 16},  // bluish green
	{227, 16}, // yellow
	{32, 231}, // blue
	{166, 16}, // vermillion
	{175, 16}, // reddish purple
}

// canvas turns text and its paint into what is written.
type canvas struct{ colour bool }

func (c canvas) paint(p paint, text string) string {
	if !c.colour || p == paintPlain {
		return text
	}
	return "\x1b[" + string(p) + "m" + text + "\x1b[0m"
}

// key is a pod's identity in a map.
type key struct {
	namespace, name string
	uid             types.UID
}

func (p *PodShare) key() key { return key{p.Namespace, p.Name, p.UID} }

// label marks a pod on its node.
type label struct {
	// text is A to Z, then AA, AB, …, as columns of a spreadsheet.
	text   string
	colour int
}

func newLabel(i int) label {
	l := label{colour: i % len(palette)}
	for n := i + 1; n > 0; n = (n - 1) / 26 {
		l.text = string(rune('A'+(n-1)%26)) + l.text
	}
	return l
}

func (l label) small() string { return strings.ToLower(l.text) }

// inUse paints memory that the pod uses, and booked what it was promised beyond that.
func (l label) inUse() paint {
	c := palette[l.colour]
	return paint("38;5;" + strconv.Itoa(c.letter) + ";48;5;" + strconv.Itoa(c.background))
}

func (l label) booked() paint {
	return paint("38;5;" + strconv.Itoa(palette[l.colour].background))
}
