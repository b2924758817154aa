// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package verdicts

import "github.com/berth-dev/berth/pkg/plugin/shared"

// Reader reads what a pod sees.
type Reader struct{ *shared.World }
