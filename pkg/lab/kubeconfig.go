// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/berth-dev/berth/pkg/lab/controlplane"
)

// checkKubeconfig refuses to write over a kubeconfig that is not a lab's: the file is removed when the lab stops.
func checkKubeconfig(file string) error {
	if file == "" {
		return nil
	}
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("kubeconfig: %w", err)
	case len(data) == 0:
		return nil
	}
	config, err := clientcmd.Load(data)
	if err != nil || len(config.Clusters) != 1 || config.Clusters[controlplane.ClusterName] == nil {
		return fmt.Errorf("%s exists and is not a lab's kubeconfig: name another file, it is removed when the lab stops", file)
	}
	return nil
}
