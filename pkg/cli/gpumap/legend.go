// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"fmt"
	"strings"
)

// podOnNode is one pod with its shares of all devices of a node.
type podOnNode struct {
	key    key
	shares []*PodShare
}

// labelled gives each pod of a node a label, in the order in which they are met.
func labelled(devices []Device) (map[key]label, []*podOnNode) {
	labels := map[key]label{}
	byKey := map[key]*podOnNode{}
	var pods []*podOnNode
	for i := range devices {
		for j := range devices[i].Pods {
			p := &devices[i].Pods[j]
			k := p.key()
			if byKey[k] == nil {
				labels[k] = newLabel(len(pods))
				byKey[k] = &podOnNode{key: k}
				pods = append(pods, byKey[k])
			}
			byKey[k].shares = append(byKey[k].shares, p)
		}
	}
	return labels, pods
}

// legend says which pod a label stands for, and what it holds.
func (r *renderer) legend(p *podOnNode, l label) {
	text := p.key.namespace + "/" + p.key.name + "  " + p.amounts()
	if p.shares[0].Whole {
		text += ", alone on the GPU"
	}
	if p.shares[0].Loading {
		text += ", loading"
	}
	if idle := p.shares[0].IdleSince; idle != nil {
		text += ", idle for " + r.ago(idle.Time)
	}
	const indent = indexColumn
	for i, line := range wrap(text, r.width-indent-len(l.text)-1) {
		mark := strings.Repeat(" ", len(l.text))
		if i == 0 {
			mark = r.paint(l.inUse(), l.text)
		}
		r.line(strings.Repeat(" ", indent) + mark + " " + line)
	}
}

// amounts says what was booked for a pod, and what it was measured to hold where that is more.
func (p *podOnNode) amounts() string {
	text := "not booked, measured " + each(p.shares, func(s *PodShare) int64 { return s.Measured })
	over := false
	for _, s := range p.shares {
		if s.Booked > 0 {
			text = each(p.shares, func(s *PodShare) int64 { return s.Booked })
			over = over || s.Measured > s.Booked
		}
	}
	if over {
		text += ", measured " + each(p.shares, func(s *PodShare) int64 { return s.Measured }) + ": more than was booked"
	}
	return text
}

// each lists amounts, equal ones once: "36Gi on each of 2 GPUs".
func each(shares []*PodShare, amount func(*PodShare) int64) string {
	amounts := make([]string, len(shares))
	same := true
	for i, s := range shares {
		amounts[i] = size(amount(s))
		same = same && amounts[i] == amounts[0]
	}
	if same && len(shares) > 1 {
		return fmt.Sprintf("%s on each of %d GPUs", amounts[0], len(shares))
	}
	return strings.Join(amounts, " + ")
}

// wrap breaks text into lines of at most width bytes, at spaces where it can.
func wrap(text string, width int) []string { return fill(strings.Fields(text), width) }

// fill puts words, which may have spaces in them, on lines of at most width bytes.
func fill(words []string, width int) []string {
	var lines []string
	line := ""
	for _, word := range words {
		for len(word) > width {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			lines, word = append(lines, word[:width]), word[width:]
		}
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
