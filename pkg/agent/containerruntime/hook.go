// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package containerruntime

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
)

// hookNames are what the toolkit's OCI hook is called, now and before.
var hookNames = []string{"nvidia-container-runtime-hook", "nvidia-container-toolkit"}

// findHook returns the path of the toolkit's OCI hook that the files of some folders install, "" if none does, and
// whether a folder could not be looked at.
func (h *host) findHook(folders []string) (path string, unknown bool) {
	for _, folder := range folders {
		files, err := h.list(folder, "*.json")
		if err != nil {
			unknown = true
			continue
		}
		for _, file := range files {
			text, err := h.read(file)
			var config struct {
				Hook struct {
					Path string `json:"path"`
				} `json:"hook"`
			}
			if err == nil {
				err = json.Unmarshal(text, &config)
			}
			if err != nil {
				unknown = true
				continue
			}
			if slices.Contains(hookNames, strings.TrimSuffix(filepath.Base(config.Hook.Path), ".real")) {
				return config.Hook.Path, false
			}
		}
	}
	return "", unknown
}
