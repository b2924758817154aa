// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// What of an in-toto statement (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md) and of SLSA's
// provenance (https://slsa.dev/spec/v1.0/provenance) is used.
type (
	statement struct {
		Type          string     `json:"_type"`
		Subject       []resource `json:"subject"`
		PredicateType string     `json:"predicateType"`
		Predicate     provenance `json:"predicate"`
	}
	resource struct {
		Name   string            `json:"name,omitempty"`
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
	}
	provenance struct {
		BuildDefinition buildDefinition `json:"buildDefinition"`
		RunDetails      runDetails      `json:"runDetails"`
	}
	buildDefinition struct {
		BuildType            string            `json:"buildType"`
		ExternalParameters   map[string]string `json:"externalParameters"`
		InternalParameters   map[string]string `json:"internalParameters"`
		ResolvedDependencies []resource        `json:"resolvedDependencies"`
	}
	runDetails struct {
		Builder builder `json:"builder"`
	}
	builder struct {
		ID string `json:"id"`
	}
)

// provenanceCommand writes an in-toto statement of how files were built; without files, its predicate alone, which
// cosign makes statements of images of.
func provenanceCommand(args []string, out io.Writer) error {
	f := flags("provenance")
	revision := f.String("revision", "", "commit that is built, in full")
	builderID := f.String("builder", "", "URI of who builds")
	if err := f.parse(args, "version", "revision", "builder"); err != nil {
		return err
	}
	made := provenance{
		BuildDefinition: buildDefinition{
			BuildType:          homepage + "/blob/main/docs/releasing.md",
			ExternalParameters: map[string]string{"repository": homepage, "version": f.version, "target": "release"},
			InternalParameters: map[string]string{"go": runtime.Version()},
			ResolvedDependencies: []resource{{
				URI: "git+" + homepage, Digest: map[string]string{"gitCommit": *revision},
			}},
		},
		RunDetails: runDetails{Builder: builder{ID: *builderID}},
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	if f.NArg() == 0 {
		return encoder.Encode(made)
	}
	whole := statement{
		Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1", Predicate: made,
	}
	for _, file := range f.Args() {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		whole.Subject = append(whole.Subject, resource{
			Name: filepath.Base(file), Digest: map[string]string{"sha256": fmt.Sprintf("%x", sha256.Sum256(data))},
		})
	}
	return encoder.Encode(whole)
}
