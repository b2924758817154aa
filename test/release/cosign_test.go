// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestCosignVerifies has cosign's own program verify what build/sign has signed, by the lines of docs/install.md. BERTH_COSIGN
// names the program: it takes as long to build as all of Berth, so make test-release runs cosign's checks by its libraries.
func TestCosignVerifies(t *testing.T) {
	cosign := os.Getenv("BERTH_COSIGN")
	if cosign == "" {
		t.Skip("BERTH_COSIGN does not name the program cosign")
	}
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	p := &published{made: &made{repository: repository}, to: strings.TrimPrefix(server.URL, "http://") + "/berth"}
	p.tools = p.made.tools(t, "sign")
	private, public := p.newKey(t)
	_, other := p.newKey(t)

	tag, err := name.NewTag(p.to + "/berth-scheduler:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, empty.Image); err != nil {
		t.Fatal(err)
	}
	digest, err := empty.Image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	provenance, sums := filepath.Join(dir, "provenance.json"), filepath.Join(dir, "SHA256SUMS")
	for file, text := range map[string]string{
		provenance: `{"buildDefinition":{"buildType":"x","externalParameters":{}},"runDetails":{"builder":{"id":"x"}}}`, sums: "0  x\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sign, image := filepath.Join(p.tools, "sign"), p.to+"/berth-scheduler@"+digest.String()
	env := []string{"COSIGN_PASSWORD=", "HOME=" + dir, "HTTPS_PROXY=http://127.0.0.1:9", "HTTP_PROXY="} // no other network is there
	p.run(t, env, sign, "image", private, image)
	p.run(t, env, sign, "attest", private, image, "slsaprovenance1", provenance)
	p.run(t, env, sign, "blob", private, sums, sums+".sigstore.json")

	for what, args := range map[string][]string{
		"files":       {"verify-blob", "--bundle", sums + ".sigstore.json", sums},
		"image":       {"verify", tag.String()},
		"attestation": {"verify-attestation", "--type", "slsaprovenance1", tag.String()},
	} {
		t.Run(what, func(t *testing.T) {
			with := func(key string) []string {
				return append([]string{args[0], "--key", key, "--insecure-ignore-tlog=true"}, args[1:]...)
			}
			p.run(t, env, cosign, with(public)...)
			if out, _, err := p.try(t.Context(), env, cosign, with(other)...); err == nil {
				t.Errorf("it verifies with the key of somebody else:\n%s", out)
			}
		})
	}
}
