// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/cosign/v3/pkg/cosign"
	ociremote "github.com/sigstore/cosign/v3/pkg/oci/remote"
	"github.com/sigstore/cosign/v3/pkg/types"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// checks are those of "cosign verify --key FILE --insecure-ignore-tlog".
func checks(keyFile string) (*cosign.CheckOpts, error) {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("public key %s: %w", keyFile, err)
	}
	verifier, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		return nil, err
	}
	return &cosign.CheckOpts{
		SigVerifier: verifier, IgnoreTlog: true, Offline: true, NewBundleFormat: true,
		ClaimVerifier: cosign.IntotoSubjectClaimVerifier, RegistryClientOpts: []ociremote.Option{withRegistry()},
	}, nil
}

// verifyImage verifies what is signed of an image: that it is the one, or, with a kind of attestation, what is attested. It
// prints the statement.
func verifyImage(ctx context.Context, args []string, out io.Writer) error {
	kind := types.CosignSignPredicateType
	if len(args) > 2 {
		var ok bool
		if kind, ok = predicateTypes[args[2]]; !ok {
			return fmt.Errorf("no attestation is called %q", args[2])
		}
	}
	check, err := checks(args[0])
	if err != nil {
		return err
	}
	ref, err := name.NewDigest(args[1])
	if err != nil {
		return err
	}
	verified, _, err := cosign.VerifyImageAttestations(ctx, ref, check)
	if err != nil {
		return err
	}
	for _, signed := range verified {
		text, err := signed.Payload()
		if err != nil {
			return err
		}
		var envelope struct{ Payload []byte }
		if err := json.Unmarshal(text, &envelope); err != nil {
			return err
		}
		var statement struct{ PredicateType string }
		if err := json.Unmarshal(envelope.Payload, &statement); err != nil {
			return err
		}
		if statement.PredicateType == kind {
			_, err := fmt.Fprintf(out, "%s\n", envelope.Payload)
			return err
		}
	}
	return fmt.Errorf("%s: nothing of the type %s is signed by this key", ref, kind)
}

func verifyBlob(ctx context.Context, args []string, out io.Writer) error {
	check, err := checks(args[0])
	if err != nil {
		return err
	}
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	signed, err := bundle.LoadJSONFromPath(args[2])
	if err != nil {
		return err
	}
	if _, err := cosign.VerifyNewBundle(ctx, check, verify.WithArtifact(bytes.NewReader(data)), signed); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "verified", args[1])
	return err
}
