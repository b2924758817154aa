// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sigstore/cosign/v3/pkg/cosign"
	ociremote "github.com/sigstore/cosign/v3/pkg/oci/remote"
	"github.com/sigstore/cosign/v3/pkg/types"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	bundlesign "github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
)

// predicateTypes are the kinds of attestations, by the names that cosign has for them.
var predicateTypes = map[string]string{
	"slsaprovenance1": "https://slsa.dev/provenance/v1",
	"cyclonedx":       "https://cyclonedx.org/bom",
}

func makeKeys(_ context.Context, args []string, _ io.Writer) error {
	keys, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return []byte(os.Getenv("COSIGN_PASSWORD")), nil })
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[0]+".key", keys.PrivateBytes, 0o600); err != nil {
		return err
	}
	return os.WriteFile(args[0]+".pub", keys.PublicBytes, 0o644)
}

func publicKey(_ context.Context, args []string, out io.Writer) error {
	key, err := loadKey(args[0])
	if err != nil {
		return err
	}
	_, err = out.Write(key.text)
	return err
}

func signImage(_ context.Context, args []string, _ io.Writer) error {
	return attach(args[0], args[1], types.CosignSignPredicateType, []byte("{}"))
}

func attest(_ context.Context, args []string, _ io.Writer) error {
	kind, ok := predicateTypes[args[2]]
	if !ok {
		return fmt.Errorf("no attestation is called %q", args[2])
	}
	predicate, err := os.ReadFile(args[3])
	if err != nil {
		return err
	}
	return attach(args[0], args[1], kind, predicate)
}

// attach signs an in-toto statement about an image, and puts it beside the image in its registry.
func attach(keyFile, image, kind string, predicate json.RawMessage) error {
	ref, err := name.NewDigest(image)
	if err != nil {
		return err
	}
	key, err := loadKey(keyFile)
	if err != nil {
		return err
	}
	statement, err := json.Marshal(map[string]any{
		"_type":         "https://in-toto.io/Statement/v1",
		"subject":       []any{map[string]any{"digest": map[string]string{"sha256": strings.TrimPrefix(ref.DigestStr(), "sha256:")}}},
		"predicateType": kind,
		"predicate":     predicate,
	})
	if err != nil {
		return err
	}
	bundle, err := key.bundle(&bundlesign.DSSEData{Data: statement, PayloadType: types.IntotoPayloadType})
	if err != nil {
		return err
	}
	return ociremote.WriteAttestationNewBundleFormat(ref, bundle, kind, withRegistry())
}

func withRegistry() ociremote.Option {
	return ociremote.WithRemoteOptions(remote.WithAuthFromKeychain(authn.DefaultKeychain))
}

func signBlob(_ context.Context, args []string, _ io.Writer) error {
	key, err := loadKey(args[0])
	if err != nil {
		return err
	}
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	bundle, err := key.bundle(&bundlesign.PlainData{Data: data})
	if err != nil {
		return err
	}
	return os.WriteFile(args[2], bundle, 0o644)
}

// keypair lets a key of cosign's sign bundles. All of cosign's own keys are ECDSA on P-256 with SHA-256.
type keypair struct {
	signer signature.SignerVerifier
	public crypto.PublicKey
	text   []byte // of the public key, as PEM
}

// loadKey reads a private key that COSIGN_PASSWORD encrypts, from a file or, as env://NAME, from the environment.
func loadKey(file string) (*keypair, error) {
	var text []byte
	var err error
	if variable, ok := strings.CutPrefix(file, "env://"); ok {
		text = []byte(os.Getenv(variable))
	} else if text, err = os.ReadFile(file); err != nil {
		return nil, err
	}
	k := &keypair{}
	if k.signer, err = cosign.LoadPrivateKey(text, []byte(os.Getenv("COSIGN_PASSWORD")), nil); err != nil {
		return nil, fmt.Errorf("private key %s: %w", file, err)
	}
	if k.public, err = k.signer.PublicKey(); err != nil {
		return nil, err
	}
	if k.text, err = cryptoutils.MarshalPublicKeyToPEM(k.public); err != nil {
		return nil, err
	}
	return k, nil
}

// bundle signs content, and asks neither a log nor a clock.
func (k *keypair) bundle(content bundlesign.Content) ([]byte, error) {
	bundle, err := bundlesign.Bundle(content, k, bundlesign.BundleOptions{})
	if err != nil {
		return nil, err
	}
	return protojson.Marshal(bundle)
}

func (k *keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

func (k *keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}

func (k *keypair) GetKeyAlgorithm() string { return "ECDSA" }

// GetHint names the key, as cosign does: by the sum of it.
func (k *keypair) GetHint() []byte {
	block, _ := pem.Decode(k.text)
	sum := sha256.Sum256(block.Bytes)
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}

func (k *keypair) GetPublicKey() crypto.PublicKey { return k.public }

func (k *keypair) GetPublicKeyPem() (string, error) { return string(k.text), nil }

func (k *keypair) SignData(_ context.Context, data []byte) (signed, digest []byte, err error) {
	sum := sha256.Sum256(data)
	signed, err = k.signer.SignMessage(bytes.NewReader(data))
	return signed, sum[:], err
}
