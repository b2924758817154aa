// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// published is a release in a registry on this machine, signed with a key that is thrown away.
type published struct {
	*made
	// to is the registry and the folder that everything is in; tools is the folder of cosign and helm.
	to, tools, publicKey string
	// refs are the names of what was pushed, by digest.
	refs []string
}

func publish(t *testing.T) *published {
	t.Helper()
	m := madeRelease(t)
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	p := &published{made: m, to: strings.TrimPrefix(server.URL, "http://") + "/berth"}
	p.tools = m.tools(t, "helm", "sign")
	private, public := p.newKey(t)
	p.publicKey = public
	out := m.run(t, []string{"COSIGN_KEY=" + private, "COSIGN_PASSWORD=", "PLAIN_HTTP=1", "VERSION=" + m.version},
		filepath.Join(m.repository, "build/publish.sh"), m.dir, p.to)
	p.refs = strings.Fields(out)
	return p
}

// newKey makes a pair of keys without a password.
func (p *published) newKey(t *testing.T) (private, public string) {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "throw-away")
	p.run(t, []string{"COSIGN_PASSWORD="}, filepath.Join(p.tools, "sign"), "keys", prefix)
	return prefix + ".key", prefix + ".pub"
}

// verify runs what "cosign verify" and "cosign verify-attestation" run.
func (p *published) verify(ctx context.Context, args ...string) (string, error) {
	out, errors, err := p.try(ctx, nil, filepath.Join(p.tools, "sign"), append([]string{"verify"}, args...)...)
	return out + errors, err
}

func TestPublished(t *testing.T) {
	p := publish(t)
	if len(p.refs) != 5 {
		t.Fatalf("pushed were %v, want four images and the chart", p.refs)
	}
	t.Run("signatures", p.testSignatures)
	t.Run("attestations", p.testAttestations)
	t.Run("images", p.testImages)
	t.Run("lab", p.testLabImage)
	t.Run("chart", p.testChart)
	t.Run("artifact hub", p.testArtifactHub)
	t.Run("sums", p.testSums)
}

func (p *published) testSignatures(t *testing.T) {
	_, other := p.newKey(t)
	for _, ref := range p.refs {
		if out, err := p.verify(t.Context(), p.publicKey, ref); err != nil {
			t.Errorf("%s: %v\n%s", ref, err, out)
		}
		if out, err := p.verify(t.Context(), other, ref); err == nil {
			t.Errorf("%s verifies with the key of somebody else:\n%s", ref, out)
		}
	}
}

// ref returns the name by digest of an image.
func (p *published) ref(t *testing.T, name string) string {
	t.Helper()
	i := slices.IndexFunc(p.refs, func(ref string) bool { return strings.HasPrefix(ref, p.to+"/"+name+"@") })
	if i < 0 {
		t.Fatalf("%s is not among %v", name, p.refs)
	}
	return p.refs[i]
}

// predicate returns the predicate of an attestation that verifies.
func (p *published) predicate(t *testing.T, kind, ref string) map[string]any {
	t.Helper()
	out, err := p.verify(t.Context(), p.publicKey, ref, kind)
	if err != nil {
		t.Fatalf("%s of %s: %v\n%s", kind, ref, err, out)
	}
	var statement struct {
		Subject   []struct{ Digest map[string]string }
		Predicate map[string]any
	}
	if err := json.Unmarshal([]byte(out), &statement); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(statement.Subject) == 0 || !strings.HasSuffix(ref, statement.Subject[0].Digest["sha256"]) {
		t.Errorf("%s of %s is about %v", kind, ref, statement.Subject)
	}
	return statement.Predicate
}

func (p *published) testAttestations(t *testing.T) {
	revision := strings.TrimSpace(p.run(t, nil, "git", "rev-parse", "HEAD"))
	for _, name := range []string{"berth-scheduler", "berth-controller", "berth-agent", "berth-lab"} {
		text, err := json.Marshal(p.predicate(t, "slsaprovenance1", p.ref(t, name)))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), revision) {
			t.Errorf("the provenance of %s does not name the commit %s: %s", name, revision, text)
		}
	}
	want := map[string][]string{
		"berth-scheduler": {"pkg:golang/k8s.io/kubernetes@"},
		"berth-agent":     {"pkg:golang/github.com/", "pkg:deb/debian/libc6@"},
	}
	for name, parts := range want {
		for _, ref := range p.platforms(t, name) {
			text, err := json.Marshal(p.predicate(t, "cyclonedx", ref))
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range parts {
				if !strings.Contains(string(text), part) {
					t.Errorf("the bill of materials of %s does not have %s", ref, part)
				}
			}
		}
	}
}

// testSums verifies the files that are downloaded, as docs/install.md says.
func (p *published) testSums(t *testing.T) {
	dir := filepath.Join(p.dir, "release")
	p.publicKey = filepath.Join(dir, "cosign.pub")
	p.run(t, nil, "sh", "-ec", "cd "+dir+" && sha256sum --check --strict SHA256SUMS")
	p.run(t, nil, filepath.Join(p.tools, "sign"), "verify-blob", p.publicKey,
		filepath.Join(dir, "SHA256SUMS"), filepath.Join(dir, "SHA256SUMS.sigstore.json"))
	if out, _, err := p.try(t.Context(), nil, filepath.Join(p.tools, "sign"), "verify-blob", p.publicKey,
		filepath.Join(dir, "berth.yaml"), filepath.Join(dir, "SHA256SUMS.sigstore.json")); err == nil {
		t.Errorf("the signature of SHA256SUMS verifies another file:\n%s", out)
	}
}

// startLab starts a control plane without nodes and returns its kubeconfig.
func (m *made) startLab(t *testing.T) string {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	lab := exec.Command(filepath.Join(m.bin, "berth-lab"), "up", "--bare", "--no-scheduler", "--no-controller", "--kubeconfig", kubeconfig)
	stdout, err := lab.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	lab.Stderr = &log
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = lab.Process.Signal(syscall.SIGTERM)
		if err := lab.Wait(); err != nil {
			t.Logf("lab: %v\n%s", err, log.String())
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready: ") {
		t.Fatalf("the lab says %q (%v)\n%s", line, err, log.String())
	}
	return kubeconfig
}
