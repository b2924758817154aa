// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWriteSVG(t *testing.T) {
	var b bytes.Buffer
	err := WriteSVG(&b, `a "trace" & more`, []Series{
		{"FGD", []Point{{0, 0, 0.13}, {0.65, 0.65, 0.2}, {1.3, 0.95, 0.99}}},
		{"<mine>", []Point{{0, 0, 0.13}, {1.3, 0.96, 0.5}}},
		{"empty", nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]int{}
	var texts []string
	d := xml.NewDecoder(&b)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("no XML: %v", err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			for _, a := range e.Attr {
				if e.Name.Local == "polyline" && a.Name.Local == "points" {
					lines[a.Value]++
				}
			}
		case xml.CharData:
			if s := strings.TrimSpace(string(e)); strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") || strings.Contains(s, ".") {
				texts = append(texts, s)
			}
		}
	}
	// 130 percent are 640 pixels wide from 70 on; 100 percent are 290 high, from 66 and 452 on.
	wantLines := map[string]int{
		"70.0,356.0 390.0,167.5 710.0,80.5": 1, "70.0,356.0 710.0,77.6": 1,
		"70.0,704.3 390.0,684.0 710.0,454.9": 1, "70.0,704.3 710.0,597.0": 1,
	}
	if diff := cmp.Diff(wantLines, lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	const x = "GPUs that arrived pods ask for, % of all"
	wantTexts := []string{
		`a "trace" & more`, "GPUs allocated, % of all", x, "<mine> 96.0", "FGD 95.0",
		"Idle GPUs in pieces that typical pods cannot use, % of what is idle", x, "FGD 99.0", "<mine> 50.0",
	}
	if diff := cmp.Diff(wantTexts, texts); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
}
