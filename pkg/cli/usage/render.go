// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/berth-dev/berth/pkg/alloc"
)

// maxAdvice is how many bookings the text shows.
const maxAdvice = 10

// Render writes the usage for people.
func (u *Usage) Render(w io.Writer) error {
	out := &strings.Builder{}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	header := strings.ToUpper(strings.TrimPrefix(u.By, labelPrefix)) + "\tPODS\tGPUS\tBOOKED\tMEASURED\tIDLE"
	pools := slices.ContainsFunc(u.Rows, func(r Row) bool { return r.Capacity != nil })
	if pools {
		header += "\tCAPACITY"
	}
	fmt.Fprintln(t, header)
	for _, r := range slices.Concat(u.Rows, []Row{u.Total}) {
		line := fmt.Sprintf("%s\t%d\t%d\t%s\t%s\t%s", r.Name, r.Pods, r.GPUs, size(r.Booked), r.measured(), size(r.Idle))
		if pools && r.Capacity != nil {
			line += "\t" + size(*r.Capacity)
		}
		fmt.Fprintln(t, line)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if u.Total.UnmeasuredPods > 0 {
		fmt.Fprintf(out, "+ without %s whose GPUs are in no report\n", pods(u.Total.UnmeasuredPods))
	}
	if u.Total.Capacity != nil {
		fmt.Fprintf(out, "\nPods can book %s on these GPUs. Processes of none of these pods hold %s.\n", size(*u.Total.Capacity), size(*u.Others))
	}
	u.renderSizes(out)
	for i, note := range u.Notes {
		if i == 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintln(out, "Note: "+note)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// measured is marked where it is not all.
func (r *Row) measured() string {
	switch {
	case r.UnmeasuredPods == 0:
		return size(r.Measured)
	case r.UnmeasuredPods == r.Pods:
		return "-"
	}
	return size(r.Measured) + "+"
}

// renderSizes writes what to book instead.
func (u *Usage) renderSizes(out io.Writer) {
	if len(u.RightSizing) == 0 && len(u.NotSized) == 0 {
		return
	}
	fmt.Fprintln(out, "\nRight-sizing")
	if len(u.RightSizing) == 0 {
		fmt.Fprintln(out, "  No booking is known to be far from what was measured.")
	}
	shown := u.RightSizing[:min(len(u.RightSizing), maxAdvice)]
	for i := range shown {
		for _, line := range shown[i].lines() {
			fmt.Fprintln(out, "  "+line)
		}
	}
	if more := len(u.RightSizing) - len(shown); more > 0 {
		fmt.Fprintf(out, "  and %d more: see -o json\n", more)
	}
	var reasons []string
	count, first := map[string]int{}, map[string]string{}
	for i := range u.NotSized {
		n := &u.NotSized[i]
		if count[n.Reason]++; count[n.Reason] == 1 {
			reasons = append(reasons, n.Reason)
			first[n.Reason] = n.Namespace + "/" + n.Name
		}
	}
	for _, reason := range reasons {
		who := first[reason]
		if n := count[reason] - 1; n > 0 {
			who += fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(out, "  Not known of %s: %s.\n", who, reason)
	}
}

// lines say a booking and what to write instead.
func (a *Advice) lines() []string {
	text := fmt.Sprintf("%s/%s books %s, peaks at %s", a.Namespace, a.Name, size(a.Booked), size(a.Peak))
	if a.GPUs > 1 {
		text += fmt.Sprintf(" on %d GPUs", a.GPUs)
	}
	text += fmt.Sprintf(" (%s measured %s)", pods(a.Samples), strings.TrimSuffix(a.Where, ","))
	if a.Measured > 0 {
		text += ", holds " + size(a.Measured) + " now"
	}
	if a.Hint != "" {
		return []string{text, "    " + a.Hint}
	}
	return []string{text, "    " + a.Line}
}

// CSV writes the rows and the total, in bytes.
func (u *Usage) CSV(out io.Writer) error {
	w := csv.NewWriter(out)
	records := [][]string{{u.By, "pods", "gpus", "booked_bytes", "measured_bytes", "idle_bytes", "unmeasured_pods", "capacity_bytes"}}
	for _, r := range slices.Concat(u.Rows, []Row{u.Total}) {
		capacity := ""
		if r.Capacity != nil {
			capacity = strconv.FormatInt(*r.Capacity, 10)
		}
		measured := strconv.FormatInt(r.Measured, 10)
		if r.UnmeasuredPods > 0 && r.UnmeasuredPods == r.Pods {
			measured = "" // it is not known
		}
		records = append(records, []string{
			r.Name, strconv.Itoa(r.Pods), strconv.Itoa(r.GPUs), strconv.FormatInt(r.Booked, 10), measured,
			strconv.FormatInt(r.Idle, 10), strconv.Itoa(r.UnmeasuredPods), capacity,
		})
	}
	return w.WriteAll(records)
}

func pods(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return strconv.Itoa(n) + " pods"
}

func size(bytes int64) string { return alloc.BytesOfInt64(bytes).String() }
