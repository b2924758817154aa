// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command render prints what the Helm chart installs, for machines without Helm:
//
//	go run -C charts ./cmd/render '{"image": {"repository": "registry.example.com/berth"}}' | kubectl apply -f -
package main

import (
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/berth-dev/berth/charts"
)

const namespace = "berth-system"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var values map[string]any
	if len(args) > 1 {
		return fmt.Errorf("one argument at most: the values, as JSON or YAML")
	}
	if len(args) == 1 {
		if err := yaml.Unmarshal([]byte(args[0]), &values); err != nil {
			return fmt.Errorf("values: %w", err)
		}
	}
	documents, err := charts.Render("berth", namespace, values, charts.Current)
	if err != nil {
		return err
	}
	_, err = fmt.Println(strings.Join(documents, "\n---\n"))
	return err
}
