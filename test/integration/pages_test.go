// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	berthv1alpha1 "github.com/berth-dev/berth/api/v1alpha1"
	"github.com/berth-dev/berth/test/integration/harness"
)

// TestTutorial follows docs/tutorial.md line by line.
func TestTutorial(t *testing.T) {
	p := openPage(t, "tutorial.md")
	p.follow(t, harness.Start(t, p.labArgs(t)...))
}

// TestComingFrom follows docs/coming-from.md on nodes that a device plugin holds until they are handed over.
func TestComingFrom(t *testing.T) {
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("the page uses jq: ", err)
	}
	p := openPage(t, "coming-from.md")
	lab := harness.Start(t, "--nodes", "2", "--gpus", "4", "--no-controller")
	for _, node := range []string{"gpu-0", "gpu-1"} {
		advertise(t, lab, node, "4")
	}
	// A snapshot of before an agent's first Lease does not know that it is alive. A reader is not as fast.
	harness.Eventually(t, "the agent of gpu-1 has a Lease", func(ctx context.Context) (bool, string) {
		_, err := lab.Clientset.CoordinationV1().Leases(berthv1alpha1.Namespace).Get(ctx, "gpu-1", metav1.GetOptions{})
		return err == nil, fmt.Sprint(err)
	})
	p.after["nvidia.com/gpu.deploy.device-plugin=false"] = func() { advertise(t, lab, "gpu-1", "0") } // as the kubelet does
	p.follow(t, lab)
}

// advertise makes a node say how many GPUs the device plugin offers there.
func advertise(t *testing.T, lab *harness.Lab, node, gpus string) {
	t.Helper()
	resources := map[string]string{berthv1alpha1.ResourceNVIDIAGPU: gpus}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"capacity": resources, "allocatable": resources}})
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Client.Status().Patch(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}},
		client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		t.Fatal(err)
	}
}

// page is a page of the documentation: what is typed, and what is then seen.
type page struct {
	steps []step
	// folder is where it is typed.
	folder string
	// after is done when a block was run that has the text.
	after map[string]func()
}

// step is a block of commands and the block behind it with what they print, if there is one: these only ask, or are refused.
type step struct{ commands, output string }

var blocks = regexp.MustCompile("(?s)```sh\n(.*?)```\n(?:\n?```\n(.*?)```\n)?")

func openPage(t *testing.T, name string) *page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return newPage(t, name, string(text))
}

// openSection opens what stands on a page below a heading of the third level.
func openSection(t *testing.T, name, heading string) *page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n### "+heading+"\n")
	if !found {
		t.Fatalf("%s has no section %q", name, heading)
	}
	section, _, _ = strings.Cut(section, "\n##")
	return newPage(t, name, section)
}

func newPage(t *testing.T, name, text string) *page {
	t.Helper()
	p := &page{after: map[string]func(){}, folder: t.TempDir()}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "manifests"), filepath.Join(p.folder, "manifests")); err != nil {
		t.Fatal(err)
	}
	for _, match := range blocks.FindAllStringSubmatch(text, -1) {
		p.steps = append(p.steps, step{match[1], match[2]})
	}
	if len(p.steps) < 2 {
		t.Fatalf("%s has only %d blocks of commands", name, len(p.steps))
	}
	return p
}

// labUp is the command that brings a lab up.
const labUp = "bin/berth-lab up "

// labArgs are the arguments that the page brings the lab up with. Files that it makes before are made.
func (p *page) labArgs(t *testing.T) []string {
	t.Helper()
	for _, s := range p.steps {
		rest, ok := strings.CutPrefix(s.commands, labUp)
		if !ok && !strings.HasPrefix(s.commands, "make ") {
			cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", s.commands)
			cmd.Dir = p.folder
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", s.commands, err, out)
			}
		}
		if !ok {
			continue
		}
		args := strings.Fields(strings.TrimSuffix(strings.TrimSpace(rest), "&"))
		at := slices.Index(args, "--kubeconfig")
		args = slices.Delete(args, at, at+2) // the harness has its own
		for i, arg := range args {
			if filepath.Ext(arg) == ".yaml" {
				args[i] = filepath.Join(p.folder, arg)
			}
		}
		return args
	}
	t.Fatal("the page brings no lab up")
	return nil
}

// follow runs the commands of the page and compares what they print. The lab has been brought up; it ends after the test.
func (p *page) follow(t *testing.T, lab *harness.Lab) {
	bin := harness.Build(t, "./cmd/kubectl-berth", "k8s.io/kubernetes/cmd/kubectl")
	kubeconfig := lab.Kubeconfig
	run := func(ctx context.Context, commands string) (string, error) {
		cmd := exec.CommandContext(ctx, "bash", "-e", "-c", commands)
		cmd.Dir = p.folder
		cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, s := range p.steps {
		switch first, _, _ := strings.Cut(s.commands, " "); first {
		case "make", "bin/berth-lab", "export":
			continue // done by the harness
		case "kill":
			kubeconfig = filepath.Join(p.folder, "none") // as if the lab were gone: what follows must do without
			continue
		}
		t.Logf("$ %s", s.commands)
		if s.output == "" {
			if out, err := run(t.Context(), s.commands); err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
		} else {
			p.see(t, s, run)
		}
		for text, do := range p.after {
			if strings.Contains(s.commands, text) {
				do()
			}
		}
	}
}

// see runs commands until they print what the page shows: a reader takes longer than the lab, a test does not. Their exit
// status is part of the answer, and no error.
func (p *page) see(t *testing.T, s step, run func(context.Context, string) (string, error)) {
	t.Helper()
	var out string
	for deadline := time.Now().Add(pageTimeout); ; time.Sleep(pageInterval) {
		out, _ = run(t.Context(), s.commands)
		if shows(out, s.output) {
			t.Log(out)
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	t.Errorf("the page shows something else (-page +lab):\n%s\nin full:\n%s", cmp.Diff(plain(s.output), plain(out)), out)
}

const (
	pageTimeout  = 30 * time.Second
	pageInterval = 200 * time.Millisecond
)

// left stands in a page for lines that are left out there.
const left = "…"

// shows says whether an output has the lines that a page shows, in their order and without others between them, but where
// the page leaves some out.
func shows(output, shown string) bool {
	have, want := plain(output), plain(shown)
	skip := false
	for _, line := range want {
		if line == left {
			skip = true
			continue
		}
		at := slices.Index(have, line)
		if at < 0 || at > 0 && !skip {
			return false
		}
		have, skip = have[at+1:], false
	}
	return len(have) == 0 || skip
}

// differing is what is not the same twice, and what stands for it.
var differing = []struct {
	what *regexp.Regexp
	is   string
}{
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT[\d:.]+Z`), "TIME"},
	{regexp.MustCompile(`(-[0-9a-f]{6,10})-[a-z0-9]{5}\b`), "$1-xxxxx"}, // of a pod of a Deployment
	{regexp.MustCompile(`\b(\d+m)?\d+s\b`), "Ns"},
	{regexp.MustCompile(`bound by \S+`), "bound by SCHEDULER"},
	{regexp.MustCompile(`held by [^\s,]+`), "held by PROCESS"},
	{regexp.MustCompile(`(version|commit) [^\s,)]+`), "$1 X"},
	{regexp.MustCompile(` {2,}`), "  "}, // columns are as wide as what is in them
}

// plain are the lines of a text without what differs from run to run.
func plain(text string) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		for _, d := range differing {
			line = d.what.ReplaceAllString(line, d.is)
		}
		lines[i] = strings.TrimSpace(line)
	}
	return lines
}

func TestShows(t *testing.T) {
	output := "one 3s\ntwo\nthree\n"
	for shown, want := range map[string]bool{
		"one 5s\ntwo\nthree": true, "one 3s\n…\nthree": true, "…\nthree": true, "one 3s\n…": true,
		"one 3s\nthree": false, "one 3s\ntwo": false, "two\n…": false, "one 3s\ntwo\nthree\nfour": false, "…\nfour": false,
	} {
		if got := shows(output, shown); got != want {
			t.Errorf("a page that shows %q is followed: %t, want %t", shown, got, want)
		}
	}
}
