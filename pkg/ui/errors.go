// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-dev/berth/pkg/cli/explain"
	"github.com/berth-dev/berth/pkg/simulator"
)

// refusal is an error with a status.
type refusal struct {
	code    int
	message string
}

func (r *refusal) Error() string { return r.message }

// errBusy is told where more is asked than can be answered in time.
var errBusy = &refusal{http.StatusTooManyRequests, "too many questions at once: ask again in a moment"}

// statusOf returns the status of an error: whose fault it is.
func statusOf(err error) int {
	var given *refusal
	var status apierrors.APIStatus
	var network net.Error
	var missing *simulator.ErrMissing
	var noPod *explain.ErrNoPod
	switch {
	case errors.As(err, &given):
		return given.code
	case errors.As(err, &noPod):
		return http.StatusNotFound
	case errors.As(err, &missing), apierrors.IsForbidden(err):
		return http.StatusForbidden
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	case errors.As(err, &status), errors.As(err, &network):
		return http.StatusBadGateway
	}
	return http.StatusBadRequest
}

func writeError(w http.ResponseWriter, code int, message string) {
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Del("ETag")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// Who asked is gone if it fails.
	_ = json.NewEncoder(w).Encode(Error{TypeMeta: typeOf(KindError), Code: code, Message: message})
}

func typeOf(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: APIVersion, Kind: kind} }

// quoted quotes what a client sent, in short.
func quoted(text string) string { return strconv.Quote(text[:min(len(text), 100)]) }
