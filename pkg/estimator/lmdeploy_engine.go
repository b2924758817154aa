// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package estimator

import (
	"path"
	"slices"
	"strings"

	"github.com/berth-dev/berth/pkg/estimator/flags"
)

// This is LMDeploy. Its cache takes a fraction of what is free once the weights are loaded, 0.8 unless told
// (lmdeploy/messages.py, TurbomindEngineConfig.cache_max_entry_count).
var _ = register(&Engine{
	Name:  "lmdeploy",
	Title: "LMDeploy",
	Starts: func(words []string) bool {
		for i, w := range words {
			if path.Base(w) == "lmdeploy" && i+1 < len(words) && words[i+1] == "serve" || strings.HasPrefix(w, "lmdeploy.serve") {
				return true
			}
		}
		return false
	},
	Image: func(name, _ string) bool { return strings.Contains(path.Base(name), "lmdeploy") },
	Flags: flags.Table(map[string]flags.Flag{"--cache-max-entry-count": flags.One(ofTotal), "--tp": flags.One(shards), "--model": flags.One(setModel)}),
	Arguments: func(words []string, _ bool) []string {
		if i := slices.Index(words, "api_server"); i >= 0 && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") {
			return append([]string{"--model=" + words[i+1]}, words[i+2:]...)
		}
		return words
	},

	MeasuresFreeMemory: true,
	Counts:             powersOfTwo,
	Share: &Share{
		Flag: "--cache-max-entry-count", OfFree: true, NeedsModel: true,
		Default: func(*Settings, DeviceInfo, int) int64 { return 800_000 },
	},
	size: customEngine.size,
})
