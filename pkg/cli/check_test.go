// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/cli/check"
)

// statusOf is what a report in JSON says of a check; empty if it says nothing.
func statusOf(t *testing.T, out, id string) check.Status {
	t.Helper()
	var r check.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, g := range r.Groups {
		for _, c := range g.Checks {
			if c.ID == id {
				return c.Status
			}
		}
	}
	return ""
}

// TestCheckWithoutRights: what the user may not read is said, and is no failure.
func TestCheckWithoutRights(t *testing.T) {
	lists := map[string]any{} // all is forbidden
	out, _, err := berth(t, lists, "", "check", "-o", "json")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, id := range []string{"server-version", "crd-installed", "policy-installed", "roles", "scheduler-lease", "agent-report", "pods-served"} {
		if got := statusOf(t, out, id); got != check.Unknown {
			t.Errorf("%s: %q", id, got)
		}
	}
	if _, _, err := berth(t, lists, "", "check", "--strict"); ExitCode(err) != 1 {
		t.Errorf("--strict: %v", err)
	}
}

// TestCheckAsksAndFails: what can be read is judged.
func TestCheckAsksAndFails(t *testing.T) {
	lists := roomy()
	lists["/version"] = map[string]string{"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
	out, _, err := berth(t, lists, "", "check", "-o", "json")
	if ExitCode(err) != 1 {
		t.Errorf("status %d: %v", ExitCode(err), err)
	}
	want := map[string]check.Status{"server-version": check.Failed, "scheduler-lease": check.Failed, "agent-fresh": check.OK, "runtime-class": check.Unknown}
	got := map[string]check.Status{}
	for id := range want {
		got[id] = statusOf(t, out, id)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s\n%s", diff, out)
	}
	text, _, _ := berth(t, lists, "", "check")
	if !strings.Contains(text, "× failed: Kubernetes 1.34 is too old") {
		t.Error(text)
	}
}

// TestCheckOfAFile: a snapshot tells what it has, and what it has not is said.
func TestCheckOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.yaml")
	if _, _, err := berth(t, roomy(), "", "snapshot", "-o", file); err != nil {
		t.Fatal(err)
	}
	out, _, err := berth(t, nil, "", "check", "--from", file, "-o", "json")
	if ExitCode(err) != 0 { // of what it has, nothing is wrong
		t.Errorf("status %d: %v\n%s", ExitCode(err), err, out)
	}
	for id, want := range map[string]check.Status{"server-version": check.Unknown, "crd-installed": check.Unknown, "scheduler-pods": check.Unknown, "agent-report": check.OK, "agent-fresh": check.Unknown, "scheduler-lease": check.Unknown, "pods-served": check.OK} {
		if got := statusOf(t, out, id); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
}

func TestCheckFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"use json":        {"-o", "yaml"},
		"a file refuses":  {"--from", "x", "--probe"},
		"does not change": {"--from", "x", "--wait", "1s"},
		"unknown command": {"pods"},
		"no such file":    {"--from", "/no/such/file"},
		"unknown flag":    {"--stric"},
	} {
		_, errOut, err := berth(t, nil, "", append([]string{"check"}, args...)...)
		if ExitCode(err) != 2 || err == nil || !strings.Contains(err.Error()+errOut, want) {
			t.Errorf("%v: status %d: %v", args, ExitCode(err), err)
		}
	}
}

// TestCheckWaits: with --wait it looks again until nothing fails.
func TestCheckWaits(t *testing.T) {
	var asked atomic.Int32
	a := &api{lists: map[string]any{"/version": map[string]string{"major": "1", "minor": "37"}}}
	old := &api{lists: map[string]any{"/version": map[string]string{"major": "1", "minor": "34"}}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// One look asks for the version four times.
		if r.URL.Path == "/version" && asked.Add(1) <= 4 {
			old.ServeHTTP(w, r)
			return
		}
		a.ServeHTTP(w, r)
	}))
	defer server.Close()
	var out bytes.Buffer
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out})
	command.SetArgs([]string{"check", "--server", server.URL, "--wait", "1m"})
	if err := command.ExecuteContext(t.Context()); err != nil || asked.Load() != 8 || !strings.Contains(out.String(), "Kubernetes 1.37 is supported") {
		t.Errorf("%v after %d questions\n%s", err, asked.Load(), out.String())
	}
}

// TestCheckOfNothing: a cluster that does not answer is no cluster that is set up wrong.
func TestCheckOfNothing(t *testing.T) {
	var out bytes.Buffer
	command := NewCommand(genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out})
	command.SetArgs([]string{"check", "--server", "http://127.0.0.1:1"})
	if err := command.ExecuteContext(t.Context()); ExitCode(err) != 2 {
		t.Errorf("status %d: %v\n%s", ExitCode(err), err, out.String())
	}
}
