// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// now is when the objects of the tests were read.
var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// readObjects reads the cluster of a file.
func readObjects(t *testing.T, file string) *Objects {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	o := &Objects{Time: now}
	for reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return o
		}
		if err != nil {
			t.Fatal(err)
		}
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.Kind {
		case "Node":
			o.Nodes = append(o.Nodes, decoded[corev1.Node](t, document))
		case "Pod":
			o.Pods = append(o.Pods, decoded[corev1.Pod](t, document))
		case "GPUNode":
			o.GPUNodes = append(o.GPUNodes, decoded[berthv1alpha1.GPUNode](t, document))
		case "ModelProfile":
			o.Profiles = append(o.Profiles, decoded[berthv1alpha1.ModelProfile](t, document))
		case "Lease":
			o.Leases = append(o.Leases, decoded[coordinationv1.Lease](t, document))
		default:
			t.Fatalf("%s: kind %q is not one that a map is made from", file, kind.Kind)
		}
	}
}

func decoded[T any](t *testing.T, document []byte) T {
	t.Helper()
	var object T
	if err := yaml.UnmarshalStrict(document, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func buildMap(t *testing.T, o *Objects, nodes ...string) *Map {
	t.Helper()
	m, err := Build(o, DefaultSettings(), nodes...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestGolden draws the cluster of testdata/cluster.yaml in every style. Run it with -update after a change that is
// meant to be seen, and look at what changed.
func TestGolden(t *testing.T) {
	m := buildMap(t, readObjects(t, "cluster.yaml"))
	m.Notes = []string{"Leases in berth-system could not be read"}
	tests := map[string]Style{
		"plain-100.txt": {Width: 100},
		"plain-40.txt":  {Width: 40},
		"colour-80.txt": {Width: 80, Colour: true},
		"wide-100.txt":  {Width: 100, Wide: true},
	}
	for file, style := range tests {
		t.Run(file, func(t *testing.T) {
			var got bytes.Buffer
			if err := m.Render(&got, style); err != nil {
				t.Fatal(err)
			}
			compareGolden(t, file, got.Bytes())
		})
	}
	t.Run("map.json", func(t *testing.T) {
		got, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		compareGolden(t, "map.json", append(got, '\n'))
	})
}

func compareGolden(t *testing.T, file string, got []byte) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestNoLineIsLongerThanTheTerminalIsWide(t *testing.T) {
	m := buildMap(t, readObjects(t, "cluster.yaml"))
	for width := MinWidth; width <= 160; width++ {
		var got bytes.Buffer
		if err := m.Render(&got, Style{Width: width}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(got.String()) {
			if n := len(strings.TrimSuffix(line, "\n")); n > width {
				t.Fatalf("on %d columns a line has %d: %q", width, n, line)
			}
		}
	}
}

func TestColourOnlyAddsPaint(t *testing.T) {
	m := buildMap(t, readObjects(t, "cluster.yaml"))
	var plain, colour bytes.Buffer
	if err := m.Render(&plain, Style{Width: 80}); err != nil {
		t.Fatal(err)
	}
	if err := m.Render(&colour, Style{Width: 80, Colour: true}); err != nil {
		t.Fatal(err)
	}
	var stripped strings.Builder
	for i, part := range strings.Split(colour.String(), "\x1b[") {
		if i > 0 {
			_, part, _ = strings.Cut(part, "m")
		}
		stripped.WriteString(part)
	}
	if diff := cmp.Diff(plain.String(), stripped.String()); diff != "" {
		t.Errorf("without escape sequences (-plain +colour):\n%s", diff)
	}
}
