// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Command sign signs what a release consists of by a key, and verifies it, with the libraries of cosign: offline, without
// a transparency log. What it signs, "cosign verify" verifies (TestCosignVerifies of test/release). Cosign's own program (3.1.3)
// is not used here: it asks for its root of trust over the network before it signs, and takes 1,765 packages to build,
// against 702.
//
//	sign keys PREFIX                                      PREFIX.key and PREFIX.pub; COSIGN_PASSWORD encrypts the key
//	sign public KEY                                       prints the public key
//	sign image KEY IMAGE@DIGEST                           as "cosign sign"
//	sign attest KEY IMAGE@DIGEST TYPE PREDICATE           as "cosign attest"
//	sign blob KEY FILE BUNDLE                             as "cosign sign-blob"
//	sign verify PUBLIC-KEY IMAGE@DIGEST [TYPE]            as "cosign verify"; with a type as "cosign verify-attestation"
//	sign verify-blob PUBLIC-KEY FILE BUNDLE               as "cosign verify-blob"
package main

import (
	"context"
	"fmt"
	"io"
	"os"
)

// action is one of the commands: how many arguments it takes, and what it does with them.
type action struct {
	least, most int
	run         func(ctx context.Context, args []string, out io.Writer) error
}

var actions = map[string]action{
	"keys":        {1, 1, makeKeys},
	"public":      {1, 1, publicKey},
	"image":       {2, 2, signImage},
	"attest":      {4, 4, attest},
	"blob":        {3, 3, signBlob},
	"verify":      {2, 3, verifyImage},
	"verify-blob": {3, 3, verifyBlob},
}

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sign:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("name a command: keys, public, image, attest, blob, verify or verify-blob")
	}
	a, ok := actions[args[0]]
	if given := len(args) - 1; !ok || given < a.least || given > a.most {
		return fmt.Errorf("%v is no command with its arguments; the comment in build/sign/main.go has them", args)
	}
	return a.run(ctx, args[1:], out)
}
