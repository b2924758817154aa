// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/berth-dev/berth/pkg/alloc"
)

// Style is how a map is drawn.
type Style struct {
	// Width is the terminal's; at least MinWidth is drawn for.
	Width  int
	Colour bool
	// Wide adds the identity of each device, and may go beyond Width.
	Wide bool
}

const (
	// MinWidth is the narrowest terminal that a map is readable on.
	MinWidth = 40
	// maxBar keeps bars comparable by eye on very wide terminals.
	maxBar = 72
	// indexColumn, amountColumn and measuredColumn are the widths of the columns beside the bar.
	indexColumn    = 3
	amountColumn   = 8
	measuredColumn = 9
)

// Render draws the map.
func (m *Map) Render(w io.Writer, s Style) error {
	r := &renderer{canvas: canvas{s.Colour}, width: max(s.Width, MinWidth), wide: s.Wide, now: m.Time.Time}
	r.bar = min(r.width-indexColumn-2*amountColumn-measuredColumn, maxBar)
	for i := range m.Nodes {
		r.node(&m.Nodes[i])
	}
	if len(m.Nodes) == 0 {
		r.wrapped("", "No GPUs: no node has a GPUNode report. Berth's agent makes them; is it running on the nodes with GPUs?")
	}
	r.pendingPods(m.PendingPods)
	r.key()
	for _, note := range m.Notes {
		r.wrapped("", "Note: "+note)
	}
	_, err := io.WriteString(w, r.out.String())
	return err
}

// renderer draws a map from top to bottom.
type renderer struct {
	canvas
	out        strings.Builder
	width, bar int
	wide       bool
	now        time.Time
	// seen is which signs were drawn and need an explanation, and pods whether any pod was.
	seen map[string]bool
	pods bool
}

func (r *renderer) line(s string) { r.out.WriteString(strings.TrimRight(s, " ") + "\n") }

// wrapped writes text behind a prefix, its further lines as far to the right.
func (r *renderer) wrapped(prefix, text string) {
	for i, line := range wrap(text, r.width-len(prefix)) {
		if i == 1 {
			prefix = strings.Repeat(" ", len(prefix))
		}
		r.line(prefix + line)
	}
}

func (r *renderer) node(n *Node) {
	sum, largest := n.Free()
	title := fmt.Sprintf("%s, %s free, %s on one GPU", models(n.Devices), size(sum), size(largest))
	if len(n.Devices) == 0 {
		title = "no GPUs"
	}
	if len(n.Name)+2+len(title) <= r.width {
		r.line(r.paint(paintBold, n.Name) + "  " + title)
	} else {
		r.line(r.paint(paintBold, n.Name))
		r.wrapped("  ", title)
	}
	if n.Reason != "" {
		text := "No GPU pod is placed here: " + n.Reason
		if n.LastHeard != nil {
			text += ", last heard of " + r.ago(n.LastHeard.Time) + " ago"
		}
		r.wrapped("  ! ", text)
	}
	for _, problem := range n.Problems {
		r.wrapped("  ! ", problem)
	}
	if len(n.Devices) > 0 {
		r.line(r.paint(paintDim, r.header()))
	}
	labels, pods := labelled(n.Devices)
	r.pods = r.pods || len(pods) > 0
	for i := range n.Devices {
		r.device(&n.Devices[i], labels)
	}
	for _, p := range pods {
		r.legend(p, labels[p.key])
	}
	r.line("")
}

func (r *renderer) header() string {
	h := fmt.Sprintf("%-*s%*s%*s%*s", indexColumn+r.bar, "GPU", amountColumn, "BOOKED", measuredColumn, "MEASURED", amountColumn, "FREE")
	if r.wide {
		h += fmt.Sprintf("%*s  %-42s%s", amountColumn, "TOTAL", "UUID", "MODEL")
	}
	return h
}

func (r *renderer) device(d *Device, labels map[key]label) {
	parts := d.segments(labels)
	r.sees(parts)
	row := fmt.Sprintf("%*d ", indexColumn-1, d.Index) + r.canvas.bar(parts, r.bar) +
		fmt.Sprintf("%*s%*s%*s", amountColumn, size(d.Booked), measuredColumn, size(d.Measured), amountColumn, size(d.Free))
	if r.wide {
		row += fmt.Sprintf("%*s  %-42s%s", amountColumn, size(d.Total), d.UUID, d.Model)
	}
	r.line(row)
	for _, text := range d.words() {
		r.wrapped(strings.Repeat(" ", indexColumn), text)
	}
}

// words say what is not to be seen from the amounts.
func (d *Device) words() []string {
	var words []string
	if d.State != StateReady {
		text := strings.ToLower(string(d.State))
		if d.Reason != "" {
			text += ": " + d.Reason
		}
		words = append(words, text+", gets no pods")
	}
	if d.Foreign > 0 {
		words = append(words, size(d.Foreign)+" foreign: in use by processes of no pod")
	}
	if d.Leaving > 0 {
		words = append(words, size(d.Leaving)+" still held by processes of pods that are gone")
	}
	charged := d.Leaving + d.Foreign
	for i := range d.Pods {
		charged += d.Pods[i].Charged
		if d.Pods[i].Whole {
			charged -= d.Foreign // which it was placed beside
		}
	}
	if over := charged - d.Capacity; over > 0 && len(d.Pods) > 0 {
		words = append(words, size(over)+" more than the GPU has for pods")
	}
	return words
}

// models counts the devices of each model: "4x NVIDIA A100, 2x NVIDIA L40S".
func models(devices []Device) string {
	var names []string
	count := map[string]int{}
	for i := range devices {
		name := devices[i].Model
		if name == "" {
			name = "GPU"
		}
		if count[name]++; count[name] == 1 {
			names = append(names, name)
		}
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%dx %s", count[name], name)
	}
	return strings.Join(names, ", ")
}

func (r *renderer) pendingPods(pods []PendingPod) {
	if len(pods) == 0 {
		return
	}
	r.line(r.paint(paintBold, "Pending pods"))
	for i := range pods {
		p := &pods[i]
		text := p.Namespace + "/" + p.Name + ": " + p.asks() + ", waits " + r.ago(p.Since.Time)
		if p.NominatedNode != "" {
			text += ", nominated to " + p.NominatedNode
		}
		r.wrapped("  ", text)
		r.wrapped("    ", p.Reason)
	}
	r.line("")
}

// asks says what a pending pod asks for.
func (p *PendingPod) asks() string {
	text := "no GPU memory"
	switch {
	case p.GPUMemory != "":
		text = p.GPUMemory
	case p.Model != "":
		text = p.Model
	}
	switch p.GPUCount {
	case "":
	case "1":
		text += " on 1 GPU"
	default:
		text += " on " + p.GPUCount + " GPUs"
	}
	return text
}

// sees remembers which signs a bar has.
func (r *renderer) sees(parts []segment) {
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	for _, p := range parts {
		if p.amount > 0 {
			r.seen[p.text] = true
		}
	}
}

// key explains the signs that were drawn.
func (r *renderer) key() {
	var parts []string
	if r.pods {
		parts = append(parts, "A in use by pod A", "a booked for it")
	}
	for _, sign := range []struct{ text, meaning string }{
		{signForeign, "foreign"}, {signLeaving, "of pods that are gone"}, {signBlocked, "not usable"}, {signFree, "free"},
	} {
		if r.seen[sign.text] {
			parts = append(parts, sign.text+" "+sign.meaning)
		}
	}
	for i := range len(parts) - 1 {
		parts[i] += ","
	}
	for _, line := range fill(parts, r.width) {
		r.line(line)
	}
}

func (r *renderer) ago(t time.Time) string { return duration.HumanDuration(max(0, r.now.Sub(t))) }

func size(bytes int64) string { return alloc.BytesOfInt64(bytes).String() }
