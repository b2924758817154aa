// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

// exitError is an error that says with what status the program ends.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// ExitCode is the status with which the program ends for an error of a command: 1, unless the command says otherwise.
func ExitCode(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	}
	return 1
}

// answersByStatus makes a command end with 1 if its answer is no, and above 1 if it has none, as diff does.
func answersByStatus(command *cobra.Command) {
	failed := func(err error) error {
		var e *exitError
		if err == nil || errors.As(err, &e) {
			return err
		}
		return &exitError{2, err}
	}
	run, args := command.RunE, command.Args
	command.RunE = func(cmd *cobra.Command, given []string) error { return failed(run(cmd, given)) }
	command.Args = func(cmd *cobra.Command, given []string) error { return failed(args(cmd, given)) }
	command.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return failed(err) })
}

// no is the answer no, which the output has told.
func no(command *cobra.Command, why string) error {
	command.SilenceErrors = true
	return &exitError{1, errors.New(why)}
}
