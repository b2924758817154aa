// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"sync"
)

// maxKept is how many bytes of answers are kept, compressed.
const maxKept = 64 << 20

// answered keeps the answers of a revision. Who asks what somebody is being answered waits for that answer; it is given up when nobody
// waits for it any more.
type answered struct {
	mu       sync.Mutex
	revision int64
	answers  map[string]*pending
	size     int
}

// pending is an answer that is kept, or is being found.
type pending struct {
	done    chan struct{}
	waiting int
	cancel  context.CancelFunc
	// body is JSON, compressed.
	body []byte
	err  error
	// panicked is what ended the search, with its stack.
	panicked string
}

// get returns an answer of a revision.
func (c *answered) get(ctx context.Context, revision int64, key string, ask func(context.Context) (any, error)) ([]byte, error) {
	p := c.begin(ctx, revision, key, ask)
	select {
	case <-p.done:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.waiting--
	select {
	case <-p.done:
		if p.panicked != "" {
			panic(p.panicked) // in the request, which the HTTP server takes care of, and not in a goroutine, which ends the program
		}
		return p.body, p.err
	default:
	}
	if p.waiting == 0 {
		p.cancel()
		if c.answers[key] == p {
			delete(c.answers, key) // who comes now asks anew
		}
	}
	return nil, ctx.Err()
}

func (c *answered) begin(ctx context.Context, revision int64, key string, ask func(context.Context) (any, error)) *pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision > c.revision {
		c.revision, c.answers, c.size = revision, map[string]*pending{}, 0
	}
	p := c.answers[key]
	if p != nil && revision == c.revision {
		p.waiting++
		return p
	}
	p = &pending{done: make(chan struct{}), waiting: 1}
	// Not of the request alone: others may come to wait for it.
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if revision == c.revision {
		c.answers[key] = p
	}
	go c.find(ctx, p, key, ask)
	return p
}

// find finds an answer, and keeps it unless it is an error.
func (c *answered) find(ctx context.Context, p *pending, key string, ask func(context.Context) (any, error)) {
	defer close(p.done)
	defer p.cancel()
	defer func() {
		if r := recover(); r != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			p.panicked = fmt.Sprintf("%v\n%s", r, debug.Stack())
			if c.answers[key] == p {
				delete(c.answers, key)
			}
		}
	}()
	doc, err := ask(ctx)
	var body []byte
	if err == nil {
		body, err = compressed(doc)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.body, p.err = body, err
	if c.answers[key] != p {
		return // of a revision that is over
	}
	if err != nil {
		delete(c.answers, key)
		return
	}
	if c.size += len(body); c.size > maxKept {
		c.answers, c.size = map[string]*pending{}, 0
	}
}

// compressed writes a document: at its fastest, for it goes no further than this machine, and lies in memory meanwhile.
func compressed(doc any) ([]byte, error) {
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(zip).Encode(doc); err != nil {
		return nil, err
	}
	err = zip.Close()
	return out.Bytes(), err
}
