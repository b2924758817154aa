// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/berth-dev/berth/pkg/simulator"
)

// Shape is a kind of node that there can be.
type Shape struct {
	simulator.Shape
	// Name is as it was written: h100-80x8.
	Name string
	// CPU and Memory are what pods can have of a node beside GPUs; zero = not limited.
	CPU, Memory resource.Quantity
	// Price is that of one node; zero = not known.
	Price float64
}

// shapeForm is how a shape is written.
const shapeForm = "h100-80x8, or with what a node has beside GPUs and what it costs h100-80x8:cpu=208:memory=2Ti@98.32"

// ParseShapes reads shapes, separated by commas.
func ParseShapes(texts []string) ([]Shape, error) {
	var shapes []Shape
	for _, text := range texts {
		for part := range strings.SplitSeq(text, ",") {
			s, err := parseShape(strings.TrimSpace(part))
			if err != nil {
				return nil, fmt.Errorf("%q: %w", part, err)
			}
			if slices.ContainsFunc(shapes, func(o Shape) bool { return o.Shape == s.Shape }) {
				return nil, fmt.Errorf("%q: the shape is named twice", part)
			}
			shapes = append(shapes, s)
		}
	}
	if len(shapes) == 0 {
		return nil, errors.New("name the kinds of nodes that there can be, such as " + shapeForm)
	}
	if len(shapes) > maxShapes {
		return nil, fmt.Errorf("%d shapes: at most %d are compared", len(shapes), maxShapes)
	}
	priced := 0
	for i := range shapes {
		if shapes[i].Price > 0 {
			priced++
		}
	}
	if priced > 0 && priced < len(shapes) {
		return nil, errors.New("some shapes have a price and some have none: give all of them one, or none")
	}
	return shapes, nil
}

// maxShapes bounds the sets of shapes that are looked at.
const maxShapes = 6

func parseShape(text string) (s Shape, err error) {
	text, price, priced := strings.Cut(text, "@")
	if priced {
		if s.Price, err = strconv.ParseFloat(price, 64); err != nil || !(s.Price > 0 && s.Price < 1e12) {
			return s, fmt.Errorf("%q is no price: write it as %s", price, shapeForm)
		}
	}
	parts := strings.Split(text, ":")
	if s.Shape, err = simulator.ParseShape(parts[0]); err != nil {
		return s, err
	}
	s.Name = strings.ToLower(fmt.Sprintf("%sx%d", s.Model.Short, s.GPUs))
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		q, err := resource.ParseQuantity(value)
		switch {
		case key != "cpu" && key != "memory", err != nil, q.Sign() <= 0:
			return s, fmt.Errorf("%q is not understood: write it as %s", part, shapeForm)
		case key == "cpu":
			s.CPU = q
		default:
			if q.Value() < 1<<30 {
				return s, fmt.Errorf("memory=%s is %d bytes: did you mean %sGi?", value, q.Value(), value)
			}
			s.Memory = q
		}
	}
	return s, nil
}
