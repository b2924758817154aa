// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

// Package podlogs knows the names of a node's pods by the folders in which the kubelet keeps their logs. It reads no log.
package podlogs

import (
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// DefaultDir is where the kubelet keeps them, unless its podLogsDir says otherwise.
const DefaultDir = "/var/log/pods"

// Dir is that folder. It implements agent.Names.
type Dir string

// Names returns the names of the pods that have or had a container on the node, by UID. A static pod's UID is the hash of
// its manifest, as in the names of its cgroups, and not that of its mirror in the API.
func (d Dir) Names() (map[types.UID]types.NamespacedName, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, fmt.Errorf("names of pods: %w", err)
	}
	names := make(map[types.UID]types.NamespacedName, len(entries))
	for _, e := range entries {
		// NAMESPACE_NAME_UID (the kubelet's kuberuntime.BuildPodLogsDirectory); neither can have an underscore.
		parts := strings.Split(e.Name(), "_")
		if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
			continue
		}
		names[types.UID(parts[2])] = types.NamespacedName{Namespace: parts[0], Name: parts[1]}
	}
	return names, nil
}
