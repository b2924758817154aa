// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/berth-dev/berth/pkg/cli/terminal"
	"github.com/berth-dev/berth/pkg/estimator"
	"github.com/berth-dev/berth/pkg/modelsource"
	"github.com/berth-dev/berth/pkg/modelsource/modelread"
)

// fromHub reads a model's headers from its source, as the controller does in a cluster. HF_ENDPOINT and HF_TOKEN are
// those of Hugging Face's own tools.
func (o *modelReader) fromHub(ctx context.Context) (*estimator.Model, error) {
	endpoint := os.Getenv("HF_ENDPOINT")
	var trusted []string
	if endpoint != "" {
		trusted = append(trusted, endpoint)
	}
	policy, err := modelsource.NewPolicy(trusted, modelsource.DefaultHosts, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("HF_ENDPOINT: %w", err)
	}
	resolver, err := modelsource.NewResolver(modelsource.Config{
		HuggingFaceEndpoint: endpoint, Policy: policy, Credentials: huggingFaceToken(endpoint), UserAgent: "kubectl-berth",
	})
	if err != nil {
		return nil, err
	}
	p := &progress{o: o}
	p.say("Reading the headers of %s …", o.model)
	defer p.end()
	snapshot, err := resolver.Resolve(ctx, o.model)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close() //nolint:errcheck // only read
	return modelread.Read(ctx, snapshot, func(done, total int) { p.say("Reading the headers of %s: %d of %d files", o.model, done, total) })
}

// huggingFaceToken gives HF_TOKEN to the hub, and to nobody else.
func huggingFaceToken(endpoint string) modelsource.Credentials {
	token := os.Getenv("HF_TOKEN")
	if token == "" {
		return nil
	}
	if endpoint == "" {
		endpoint = modelsource.DefaultHuggingFaceEndpoint
	}
	hub, err := modelsource.HostOf(endpoint)
	return func(_ context.Context, host string) (string, error) {
		if err != nil || host != hub {
			return "", nil
		}
		return "Bearer " + token, nil
	}
}

// progress shows one line on standard error: in place on a terminal, elsewhere the first one only.
type progress struct {
	o *modelReader

	mu   sync.Mutex
	said int // characters on the line
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, inPlace := terminal.Of(p.o.ErrOut)
	if p.said > 0 && !inPlace {
		return
	}
	line := fmt.Sprintf(format, args...)
	if inPlace {
		fmt.Fprintf(p.o.ErrOut, "\r%-*s", p.said, line)
	} else {
		fmt.Fprintln(p.o.ErrOut, line)
	}
	p.said = max(p.said, len(line))
}

// end leaves the line, so that what follows begins on a new one.
func (p *progress) end() {
	if _, inPlace := terminal.Of(p.o.ErrOut); inPlace {
		fmt.Fprintln(p.o.ErrOut)
	}
}
