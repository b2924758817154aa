// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// unreadable says whether an error means that something is not there or not for this user to see, which a tool for
// people can do without, as opposed to a failure.
func unreadable(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsNotFound(err)
}

// needed is the error of a list that a map of the GPUs cannot do without.
func needed(what string, err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("list %s: who holds a GPU is not known without them: ask for the ClusterRole berth-view for the whole cluster, "+
			"or see what the pods of one namespace hold by --by owner -n NAMESPACE (%w)", what, err)
	}
	return fmt.Errorf("list %s: %w", what, err)
}
