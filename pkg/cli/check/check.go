// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package check judges whether Berth is set up right, by what was read of a cluster. It is pure: pkg/cli/cluster reads,
// and what the scheduler decides by is asked of the scheduler's own packages, not judged a second time.
package check

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// APIVersion and Kind are those of the JSON form. Fields and IDs are added to it, and never change or go within a version.
	APIVersion = "cli.berth.dev/v1alpha1"
	Kind       = "Check"
)

// Status is what a check found.
type Status string

const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failed  Status = "failed"
	// Unknown: it could not be checked.
	Unknown Status = "unknown"
)

// Report is what all checks found.
type Report struct {
	metav1.TypeMeta `json:",inline"`
	// Time is when the cluster was read, by the clock of the API server.
	Time metav1.Time `json:"time"`
	// Status is Failed if any check is, else Warning if any is, else OK: what could not be checked is counted in Unknown.
	Status Status `json:"status"`
	// Warnings, Failures and Unknown count the checks.
	Warnings int     `json:"warnings"`
	Failures int     `json:"failures"`
	Unknown  int     `json:"unknown"`
	Groups   []Group `json:"groups"`
	// Notes say what else is to be known of the answer.
	Notes []string `json:"notes,omitempty"`
}

// Group is the checks of one subject.
type Group struct {
	ID     string   `json:"id"`
	Title  string   `json:"title"`
	Checks []Result `json:"checks"`
}

// Result is what one check found. A check that finds several causes has a result for each.
type Result struct {
	ID     string `json:"id"`
	Status Status `json:"status"`
	// Message says what was found, and the cause.
	Message string `json:"message"`
	// Objects are the nodes, pods or other objects that it is about.
	Objects []string `json:"objects,omitempty"`
	// Run are the lines to run, and See is the page to read.
	Run []string `json:"run,omitempty"`
	See string   `json:"see,omitempty"`
}

// Judge makes all checks.
func Judge(f *Facts) *Report {
	r := &Report{TypeMeta: metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind}, Time: metav1.NewTime(f.Time), Status: OK}
	c := newJudge(f)
	for _, g := range []struct {
		id, title string
		checks    func() []Result
	}{
		{"kubernetes", "Kubernetes and versions", c.versions},
		{"crds", "CustomResourceDefinitions", c.crds},
		{"policies", "Admission policies", c.policies},
		{"rights", "Rights of Berth's accounts", c.rights},
		{"scheduler", "Scheduler", c.scheduler},
		{"controller", "Controller", c.controller},
		{"agents", "Agents and their reports", c.agents},
		{"nodes", "GPU nodes and their hand-off", c.nodes},
		{"pods", "Pods", c.pods},
	} {
		group := Group{ID: g.id, Title: g.title, Checks: g.checks()}
		for i := range group.Checks {
			switch group.Checks[i].Status {
			case Failed:
				r.Failures++
			case Warning:
				r.Warnings++
			case Unknown:
				r.Unknown++
			}
		}
		r.Groups = append(r.Groups, group)
	}
	switch {
	case r.Failures > 0:
		r.Status = Failed
	case r.Warnings > 0:
		r.Status = Warning
	}
	if f.Probed == nil && !f.FromFile {
		r.Notes = append(r.Notes, "The policies were read, not tried: with --probe the API server is asked, by dry runs, to refuse what they must refuse")
	}
	r.Notes = append(r.Notes, f.Notes...)
	return r
}

// Passes says whether nothing failed; strict: whether all was checked, and nothing is to be warned of.
func (r *Report) Passes(strict bool) bool {
	return r.Failures == 0 && (!strict || r.Warnings == 0 && r.Unknown == 0)
}

func result(id string, status Status, format string, args []any) Result {
	return Result{ID: id, Status: status, Message: fmt.Sprintf(format, args...)}
}

func ok(id, format string, args ...any) Result      { return result(id, OK, format, args) }
func warning(id, format string, args ...any) Result { return result(id, Warning, format, args) }
func failed(id, format string, args ...any) Result  { return result(id, Failed, format, args) }
func unknown(id, format string, args ...any) Result { return result(id, Unknown, format, args) }

// run adds lines to run.
func (r Result) run(lines ...string) Result {
	r.Run = append(slices.Clone(r.Run), lines...)
	return r
}

// see adds the page to read.
func (r Result) see(page string) Result {
	r.See = page
	return r
}

// of adds the objects that it is about, sorted, each once.
func (r Result) of(objects ...string) Result {
	r.Objects = slices.Compact(slices.Sorted(slices.Values(objects)))
	return r
}

// count says how many there are: "1 node", "3 nodes".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// listed joins words: "a, b and c".
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
