// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheMachinesLackIsTakenOut(t *testing.T) {
	bound, err := boundingSet("Name:\tx\nCapBnd:\t000001fffeffffff\nCapAmb:\t0\n")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	for _, tc := range []struct {
		name, content, want string
		below               []string
	}{
		{
			name:    "a bundle that asks for more than there is, and a limit that no float holds",
			content: `{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"effective":["CAP_SYS_RESOURCE"]}},"x":18446744073709551615}`,
			below:   []string{"process"},
			want:    `{"process":{"capabilities":{"bounding":["CAP_CHOWN"],"effective":[]}},"x":18446744073709551615}`,
		},
		{
			name:    "the process of an exec",
			content: `{"capabilities":{"permitted":["CAP_SYS_RESOURCE","CAP_KILL","CAP_NEW"]}}`,
			want:    `{"capabilities":{"permitted":["CAP_KILL","CAP_NEW"]}}`,
		},
		{name: "a process without capabilities", content: `{"process": {}}`, below: []string{"process"}, want: `{"process": {}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := edit(file, bound, tc.below...); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--root", "/r", "create", "--bundle", "/b", "id"}, "/b"},
		{[]string{"create", "--bundle=/b", "id"}, "/b"},
		{[]string{"run", "-b", "/b"}, "/b"},
		{[]string{"run", "--bundle"}, ""},
		{[]string{"state", "id"}, ""},
	} {
		if got := option(tc.args, "--bundle", "-b"); got != tc.want {
			t.Errorf("option(%v) = %q, want %q", tc.args, got, tc.want)
		}
	}
}
