// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-dev/berth/pkg/cli"
)

// writeCLI writes each command with its flags. Flags that all of them share, kubectl's own, stand with the first.
func writeCLI(out *bytes.Buffer) error {
	root := cli.NewCommand(genericiooptions.NewTestIOStreamsDiscard())
	root.DisableAutoGenTag = true
	// Its default is in the home of whoever runs this.
	root.PersistentFlags().Lookup("cache-dir").DefValue = "$HOME/.kube/cache"
	for _, command := range append([]*cobra.Command{root}, root.Commands()...) {
		if command != root && !command.IsAvailableCommand() {
			continue
		}
		var page bytes.Buffer
		if err := doc.GenMarkdown(command, &page); err != nil {
			return err
		}
		text, _, _ := strings.Cut(page.String(), "### SEE ALSO")
		text, _, _ = strings.Cut(text, "### Options inherited from parent commands")
		out.WriteString("\n" + strings.TrimSpace(text) + "\n")
	}
	return nil
}
