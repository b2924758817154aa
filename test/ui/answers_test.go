// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The views answer what the commands do: the same numbers and the same words. What a command prints is read here, and not what it
// computes, since that is what people compare.

// rows returns the text of each row of a table of the page, cell by cell.
func (b *tab) rows(table string) [][]string {
	b.Helper()
	return eval[[][]string](b, fmt.Sprintf(`[...document.querySelectorAll(%q)].map((tr) => [...tr.cells].map((c) => c.innerText.replace(/\s+/g, ' ').trim()))`, table+" tbody tr"))
}

// words returns the text of each element, in one line.
func (b *tab) words(selector string) []string {
	b.Helper()
	return eval[[]string](b, fmt.Sprintf(`[...document.querySelectorAll(%q)].map((e) => e.innerText.replace(/\s+/g, ' ').trim())`, selector))
}

// oneLine puts text on one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// shows fails unless the page shows a text.
func (b *tab) shows(what string) {
	b.Helper()
	if page := oneLine(eval[string](b, `document.querySelector('main').textContent`)); !strings.Contains(page, oneLine(what)) {
		b.Errorf("the page does not say %q. It says:\n%s", what, page)
	}
}

func TestFleetIsTheMapOfTop(t *testing.T) {
	file := smallFile(t)
	b := openTab(t, wide)
	b.visit(serve(t, file).at("#/fleet"))
	device := regexp.MustCompile(`^ *(\d+) \S+ +(\S+) +(\S+) +(\S+)$`)
	pod := regexp.MustCompile(`^   ([A-Z]+ \S+/.*)$`)
	title := regexp.MustCompile(`^(\S+)  \d+x .*, (\S+ free, \S+ on one GPU)$`)
	var devices [][]string
	var pods, titles, words []string
	for line := range strings.Lines(command(t, file, "top")) {
		line = strings.TrimRight(line, "\n")
		if line == "Pending pods" {
			break
		}
		switch {
		case device.MatchString(line):
			devices = append(devices, device.FindStringSubmatch(line)[1:])
		case pod.MatchString(line):
			pods = append(pods, oneLine(line))
		case title.MatchString(line):
			m := title.FindStringSubmatch(line)
			titles = append(titles, m[1]+" "+m[2])
		case strings.HasPrefix(line, "   ") && line != "":
			words = append(words, oneLine(line))
		}
	}
	if len(devices) != 16 || len(pods) != 13 || len(titles) != 4 || len(words) != 3 {
		t.Fatalf("top printed something else: %d GPUs, %d pods, %d nodes, words %q", len(devices), len(pods), len(titles), words)
	}
	var gotDevices [][]string
	var gotWords []string
	for _, row := range b.rows(".gpus") {
		if len(row) == 5 {
			gotDevices = append(gotDevices, append(row[:1], row[2:]...))
		} else {
			gotWords = append(gotWords, row[1])
		}
	}
	// The cards stand in the order of the nodes, whatever column they are in.
	compare(t, "GPUs", devices, gotDevices)
	compare(t, "words", words, gotWords)
	compare(t, "pods", pods, b.words(".legend li"))
	var gotTitles []string
	for _, head := range b.rows2(".node-head", "h2", ".room") {
		gotTitles = append(gotTitles, strings.Join(head, " "))
	}
	compare(t, "nodes", titles, gotTitles)
	b.noComplaints()
}

// rows2 returns the text of parts of each element.
func (b *tab) rows2(element string, parts ...string) [][]string {
	b.Helper()
	return eval[[][]string](b, fmt.Sprintf(`[...document.querySelectorAll(%q)].map((e) => %s.map((s) => e.querySelector(s).innerText.replace(/\s+/g, ' ').trim()))`,
		element, `["`+strings.Join(parts, `", "`)+`"]`))
}

func compare(t *testing.T, what string, command, page any) {
	t.Helper()
	if diff := cmp.Diff(command, page); diff != "" {
		t.Errorf("%s (-command +page):\n%s", what, diff)
	}
}

// named is a pod in the documents of the commands.
type named struct{ Namespace, Name string }

func TestPodsAreThoseOfTop(t *testing.T) {
	file := smallFile(t)
	b := openTab(t, wide)
	b.visit(serve(t, file).at("#/pods"))
	m := commandJSON[struct {
		Nodes       []struct{ Devices []struct{ Pods []named } }
		PendingPods []named
	}](t, file, "top")
	var want, got []string
	for _, p := range m.PendingPods {
		want = append(want, p.Namespace+"/"+p.Name)
	}
	var placed []string
	for _, n := range m.Nodes {
		for _, d := range n.Devices {
			for _, p := range d.Pods {
				placed = append(placed, p.Namespace+"/"+p.Name)
			}
		}
	}
	slices.Sort(placed)
	want = append(want, slices.Compact(placed)...)
	for _, row := range b.rows("table.rows") {
		got = append(got, row[0])
	}
	compare(t, "pods", want, got)
}

func TestPodIsExplainedAsByTheCommand(t *testing.T) {
	file := smallFile(t)
	s := serve(t, file)
	for _, p := range []named{{"chat", "deepseek-70b-0"}, {"research", "llama-405b-0"}, {"chat", "assistant-0"}, {"chat", "urgent-0"}, {"search", "embed-0"}} {
		t.Run(p.Name, func(t *testing.T) {
			b := openTab(t, wide)
			b.visit(s.at("#/pods/" + p.Namespace + "/" + p.Name))
			text := command(t, file, "explain", "pod/"+p.Name, "-n", p.Namespace, "-o", "wide")
			answer, _, _ := strings.Cut(text, "\n\n")
			for line := range strings.Lines(answer) {
				b.shows(line)
			}
			e := commandJSON[struct {
				Nodes []struct {
					Name, Reason, Plugin string
					Fits                 bool
					GPUs                 []struct{ Index int }
				}
			}](t, file, "explain", "pod/"+p.Name, "-n", p.Namespace)
			rows := b.rows("table.rows")
			if len(rows) != len(e.Nodes) {
				t.Fatalf("%d verdicts on nodes, the command has %d", len(rows), len(e.Nodes))
			}
			for i, n := range e.Nodes {
				fits := map[bool]string{true: "yes", false: "no"}[n.Fits]
				if got := rows[i]; got[0] != n.Name || got[1] != fits || !strings.HasPrefix(got[4], n.Reason) {
					t.Errorf("verdict %q, the command has %+v", got, n)
				}
			}
			for _, line := range regexp.MustCompile(`(?m)^  GPU (\d+) +(\S+ of \S+ free) *(.*)$`).FindAllStringSubmatch(text, -1) {
				b.shows(fmt.Sprintf("GPU %s%s%s", line[1], line[2], line[3]))
			}
			b.noComplaints()
		})
	}
}

func TestWaitingPodsAreExplainedAsByTheCommand(t *testing.T) {
	file := smallFile(t)
	b := openTab(t, wide)
	b.visit(serve(t, file).at("#/waiting"))
	m := commandJSON[struct{ PendingPods []named }](t, file, "top")
	if got := b.words(".waiting h2 a"); len(got) != len(m.PendingPods) {
		t.Errorf("pods %q, the command has %v", got, m.PendingPods)
	}
	for _, p := range m.PendingPods {
		e := commandJSON[struct{ Nearest string }](t, file, "explain", "pod/"+p.Name, "-n", p.Namespace)
		b.shows(p.Namespace + "/" + p.Name)
		b.shows(e.Nearest)
	}
}

// outcomes reads the table that what-if prints: the pod, whether it finds a node, whom it evicts, and after how long.
func outcomes(text string) (pods [][]string, summary string) {
	table, rest, _ := strings.Cut(text, "\n\n")
	for i, line := range strings.Split(table, "\n") {
		if cells := regexp.MustCompile(` {2,}`).Split(strings.TrimRight(line, " "), -1); i > 0 {
			pods = append(pods, []string{cells[0], cells[1], cells[3], cells[4]})
		}
	}
	lines := strings.Split(strings.TrimSpace(rest), "\n")
	return pods, lines[len(lines)-1]
}

// shownOutcomes reads the same of the page.
func (b *tab) shownOutcomes(table string) (pods [][]string) {
	b.Helper()
	for _, row := range b.rows(table) {
		node, evicts, after := row[1], row[3], row[4]
		if node == "stays pending" {
			node, evicts, after = "-", "-", "-"
		}
		if evicts == "nobody" {
			evicts = "-"
		}
		pods = append(pods, []string{row[0], node, strings.ReplaceAll(evicts, " ", ", "), after})
	}
	return pods
}

func TestPlansAreThoseOfWhatIf(t *testing.T) {
	file := smallFile(t)
	b := openTab(t, wide)
	b.visit(serve(t, file).at("#/evictions"))
	want, summary := outcomes(command(t, file, "what-if"))
	if len(want) != 4 || !strings.Contains(summary, "evicted") {
		t.Fatalf("what-if printed something else: %q, %q", want, summary)
	}
	compare(t, "plans", want, b.shownOutcomes(".panel:first-child table.rows"))
	b.shows(summary)
	b.noComplaints()
}

func TestWhatIfAnswersAsTheCommand(t *testing.T) {
	file := smallFile(t)
	s := serve(t, file)
	form := func(fields string) string {
		var m struct{ Manifest string }
		decode(t, s.ask(t, "POST", "/manifest", strings.NewReader(fields)), &m)
		name := filepath.Join(t.TempDir(), "manifest.yaml")
		if err := os.WriteFile(name, []byte(m.Manifest), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, tt := range map[string]struct {
		address string
		flags   []string
	}{
		"pods that fit": {"mode=form&gpuMemory=30Gi&replicas=3", []string{"-f", form(`{"gpuMemory": "30Gi", "replicas": 3}`)}},
		"pods that evict": {"mode=form&gpuMemory=60Gi&gpuCount=1&replicas=2&priority=5000",
			[]string{"-f", form(`{"gpuMemory": "60Gi", "gpuCount": "1", "replicas": 2}`), "--priority", "5000"}},
		"a drained node": {"mode=waiting&drain=l40s-0", []string{"--drain", "l40s-0"}},
		"what waits, on more nodes, one taken off": {"mode=waiting&addNode=h200-141x8%3D2&cordon=a100-0", []string{"--add-node", "h200-141x8=2", "--cordon", "a100-0"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := openTab(t, wide)
			b.visit(s.at("#/what-if?run=1&" + tt.address))
			b.until(`document.querySelector('.summary')`)
			want, summary := outcomes(command(t, file, append([]string{"what-if"}, tt.flags...)...))
			got := b.shownOutcomes(".stack > .panel:nth-child(2) table.rows")
			for i := range got {
				got[i][1] = strings.TrimSuffix(got[i][1], " new")
			}
			compare(t, "outcomes", want, got)
			b.shows(summary)
			b.noComplaints()
		})
	}
}

func TestUsageIsThatOfTop(t *testing.T) {
	file := smallFile(t)
	s := serve(t, file)
	for _, by := range []string{"namespace", "node-pool", "model", "owner", "app"} {
		t.Run(by, func(t *testing.T) {
			b := openTab(t, wide)
			b.visit(s.at("#/usage?by=" + by))
			table, rest, _ := strings.Cut(command(t, file, "top", "--by", by), "\n\n")
			var want [][]string
			for i, line := range strings.Split(table, "\n") {
				if cells := strings.Fields(line); i > 0 && cells[0] != "(total)" {
					want = append(want, cells)
				}
			}
			var got [][]string
			for _, row := range b.rows("table.rows") {
				if row = row[:len(row)-1]; row[len(row)-1] == "–" { // what has no capacity of its own
					row = row[:len(row)-1]
				}
				got = append(got, row)
			}
			compare(t, "rows", want, got)
			sentence, _, _ := strings.Cut(rest, "\n")
			b.shows(sentence)
			b.noComplaints()
		})
	}
}

func TestModelsAreThoseOfTheProfiles(t *testing.T) {
	s := serve(t, smallFile(t))
	b := openTab(t, wide)
	b.visit(s.at("#/models"))
	var models struct {
		Models []struct {
			Source, Message string
			Peaks           []struct{ Measured, Estimate []int64 }
		}
	}
	decode(t, s.ask(t, "GET", "/models", nil), &models)
	if len(models.Models) != 2 || len(models.Models[1].Peaks) != 2 || len(models.Models[1].Peaks[0].Estimate) != 1 {
		t.Fatalf("the server has other models: %+v", models)
	}
	for _, m := range models.Models {
		b.shows(m.Source)
		b.shows(m.Message)
	}
	// 9800Mi and 5200Mi + 4900Mi were measured.
	for i, want := range []string{"9.6Gi", "5.1Gi + 4.8Gi"} {
		if row := b.rows("table.rows")[i]; row[4] != want {
			t.Errorf("peak %q, want %q", row[4], want)
		}
	}
	b.noComplaints()
}
