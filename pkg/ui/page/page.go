// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package page holds the page of kubectl berth ui: what a browser shows of the documents that package ui answers with.
//
// The page is as it is written: ES modules, which no tool has to build. Of others it uses Preact and htm, which
// hack/vendor-page.sh brings, with their licences beside them.
package page

import "embed"

// Files has index.html at its top and the folder assets.
//
//go:embed index.html assets
var Files embed.FS
