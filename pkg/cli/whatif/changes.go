// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package whatif

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/pkg/alloc"
	"github.com/berth-dev/berth/pkg/simulator"
)

// Changes are what is different, as people write it: in flags of the same names.
type Changes struct {
	AddNode  []string `json:"addNode,omitempty"`
	Cordon   []string `json:"cordon,omitempty"`
	Drain    []string `json:"drain,omitempty"`
	Without  []string `json:"without,omitempty"`
	Priority string   `json:"priority,omitempty"`
	Strategy string   `json:"strategy,omitempty"`
}

// maxNewNodes is how many nodes of a shape can be added.
const maxNewNodes = 1000

// Question reads changes.
func (c *Changes) Question() (*Question, error) {
	q := &Question{Priority: c.Priority, Strategy: c.Strategy, Drain: c.Drain}
	for _, text := range c.AddNode {
		shape, count, many := strings.Cut(text, "=")
		n := 1
		if many {
			var err error
			if n, err = strconv.Atoi(count); err != nil || n < 1 || n > maxNewNodes {
				return nil, fmt.Errorf("--add-node=%s: %q is not a number of nodes, of which there may be %d: write it as h100-80x8=2", text, count, maxNewNodes)
			}
		}
		parsed, err := simulator.ParseShape(shape)
		if err != nil {
			return nil, fmt.Errorf("--add-node=%s: %w", text, err)
		}
		q.AddNodes = append(q.AddNodes, NewNodes{Shape: parsed, Count: n})
	}
	for _, text := range c.Cordon {
		if node, gpu, ok := strings.Cut(text, "/"); ok {
			q.CordonGPUs = append(q.CordonGPUs, GPU{Node: node, GPU: gpu})
		} else {
			q.Cordon = append(q.Cordon, node)
		}
	}
	for _, text := range c.Without {
		parts := strings.Split(text, "/")
		if len(parts) != 3 || parts[0] != "pod" || parts[1] == "" || parts[2] == "" {
			return nil, fmt.Errorf("--without=%s: write it as pod/NAMESPACE/NAME", text)
		}
		q.Without = append(q.Without, Name{Namespace: parts[1], Name: parts[2]})
	}
	if c.Strategy != "" && !slices.Contains(alloc.Strategies, alloc.Strategy(c.Strategy)) {
		return nil, fmt.Errorf("--strategy=%s is not known: use one of %s", c.Strategy, Strategies())
	}
	return q, nil
}

// Strategies names the strategies there are.
func Strategies() string {
	names := make([]string, len(alloc.Strategies))
	for i, s := range alloc.Strategies {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}
