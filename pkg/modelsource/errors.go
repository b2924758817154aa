// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package modelsource

import (
	"errors"
	"fmt"
	"time"

	"github.com/berth-dev/berth/internal/redact"
)

// Reason is why a model cannot be known. The values are reasons of a ModelProfile's Ready condition.
type Reason string

const (
	// NotFound: the source answered that there is no such model, revision or file.
	NotFound Reason = "NotFound"
	// Unauthorized: the source wants a token, or refused the one it was shown.
	Unauthorized Reason = "Unauthorized"
	// Unsupported: the URI, its host or the files' format is not one that is read here.
	Unsupported Reason = "Unsupported"
	// Unreachable: the source did not answer in time, answered with an error of its own, or asked to come back later.
	Unreachable Reason = "Unreachable"
	// BadFile: what the source sent is not what it announced, or not a model.
	BadFile Reason = "BadFile"
)

// Error is what every function here fails with.
type Error struct {
	Reason Reason
	// Message says what is wrong and, where that is known, what to write instead. It never holds a credential.
	Message string
	// RetryAfter is how long the source asked to be left alone; zero when it did not say.
	RetryAfter time.Duration
	// Err is the cause, if there is one.
	Err error

	// hidden is the failure itself, where not everybody may be told of it.
	hidden error
	// hubSays tells a model hub's own "no such model" from a 404 of a server that does not speak its protocol.
	hubSays bool
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + redact.Text(e.Err.Error())
}

func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the reason of the first *Error in err's chain, and "" when there is none.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func errorf(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
