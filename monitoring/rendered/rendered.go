// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rendered has what hack/update-monitoring.sh renders, for programs that bring it along.
package rendered

import _ "embed"

// Rules are the alerts and recording rules, as Prometheus reads them from a file.
//
//go:embed rules.yaml
var Rules []byte
