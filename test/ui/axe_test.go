// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// axe is what finds faults that keep people from using a page: axe-core of npm, which make test-ui brings.
var axe = sync.OnceValues(func() (string, error) {
	script, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	return string(script), err
})

// accessible fails on what axe-core finds that is serious or critical.
func (b *tab) accessible() {
	b.Helper()
	script, err := axe()
	if err != nil {
		b.Fatalf("no axe-core: %v; make test-ui installs it", err)
	}
	type violation struct {
		ID, Impact, Help string
		Nodes            []struct{ HTML, FailureSummary string }
	}
	found := eval[struct {
		Passes     int
		Violations []violation
	}](b, script+`; axe.run(document, {resultTypes: ['violations']}).then(({passes, violations}) => ({passes: passes.length, violations}))`)
	if found.Passes == 0 {
		b.Error("axe-core found nothing to look at")
	}
	for _, v := range found.Violations {
		if v.Impact != "serious" && v.Impact != "critical" {
			continue
		}
		var where strings.Builder
		for _, n := range v.Nodes[:min(3, len(v.Nodes))] {
			fmt.Fprintf(&where, "\n  %s\n    %s", n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", "\n    "))
		}
		b.Errorf("%s, %s: %s, at %d places:%s", v.Impact, v.ID, v.Help, len(v.Nodes), where.String())
	}
}
