// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import apierrors "k8s.io/apimachinery/pkg/api/errors"

// unreadable says whether an error means that something is not there or not for this user to see, which a tool for
// people can do without, as opposed to a failure.
func unreadable(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsNotFound(err)
}
