// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/berth-dev/berth/pkg/agent"
)

// restart replaces this process by a new one of the same program, which can load the library that replaced the one
// that this process has. It does not return unless that cannot help: where the library that is to be had is still the
// old one, as in a container that got it from the container toolkit when it was made, the process has to end, for the
// kubelet to make a new container.
func restart(ctx context.Context, cause error) error {
	if !errors.Is(cause, agent.ErrLibraryReplaced) {
		return cause
	}
	klog.FromContext(ctx).Info("Starting again, to load the driver's new library")
	klog.Flush()
	err := syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	return fmt.Errorf("start again: %w", err)
}
