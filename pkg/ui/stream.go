// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// heartbeat is how often a stream says that it is there, and sendTimeout how long a page may take to read what is sent.
	heartbeat   = 10 * time.Second
	sendTimeout = 10 * time.Second
)

// changes tells of each revision.
func (s *Server) changes(w http.ResponseWriter, r *http.Request) {
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		writeError(w, errBusy.code, errBusy.message)
		return
	}
	defer s.streams.Add(-1)
	control := http.NewResponseController(w)
	send := func(text string) bool {
		// Not all writers have a deadline: those of tests have none.
		_ = control.SetWriteDeadline(time.Now().Add(sendTimeout))
		_, err := io.WriteString(w, text)
		return err == nil && control.Flush() == nil
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return // nothing is sent that could show that he is gone
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	told := int64(0)
	for {
		number, next := s.world.revisions.now()
		if number != told && !send(fmt.Sprintf("event: revision\ndata: {\"revision\":%d}\n\n", number)) {
			return
		}
		told = number
		select {
		case <-r.Context().Done():
			return
		case <-next:
		case <-beat.C:
			if !send(": heartbeat\n\n") {
				return
			}
		}
	}
}
