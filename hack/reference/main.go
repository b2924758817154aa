// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command reference writes docs/reference: pages that follow from the code, so that they cannot say anything else. Run it by
// hack/update-codegen.sh.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// page is one file of the reference.
type page struct {
	file, title string
	// intro stands below the title.
	intro string
	write func(*bytes.Buffer) error
}

// pages are all of them. Paths of sources are relative to the repository, where the command runs.
var pages = []page{
	{"annotations.md", "Annotations, labels and variables",
		"What they mean together is in [the pod API](../pod-api.md), and who may write them in [security](../security.md).", writeKeys},
	{"scheduler-arguments.md", "Arguments of the scheduler",
		"Kind `BerthArgs`, in the `pluginConfig` of a profile. [Scheduler configuration](../scheduler-configuration.md) has the rest of the file.\n\n" +
			"Its flags are those of [kube-scheduler](https://kubernetes.io/docs/reference/command-line-tools-reference/kube-scheduler/) v1.37, with " +
			"the same defaults and no other; `--config` names the file. Before an older apiserver it sets `--emulated-version` by itself.", writeArgs},
	{"cli.md", "kubectl berth",
		"The same as `--help` says. [kubectl berth](../kubectl-berth.md) explains what is shown.", writeCLI},
	{"crds.md", "CustomResourceDefinitions",
		"Fields of the objects, as `kubectl explain` has them. People write ModelProfiles at most, see [models](../models.md); the rest is Berth's own.", writeCRDs},
}

const generated = "<!-- Made by hack/update-codegen.sh from the code: change it there. -->\n"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: reference FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, p := range pages {
		text := bytes.NewBufferString(generated + "# " + p.title + "\n\n" + p.intro + "\n")
		if err := p.write(text); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
		if err := os.WriteFile(filepath.Join(folder, p.file), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cell makes a text one cell of a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
