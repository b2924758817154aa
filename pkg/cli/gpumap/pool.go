// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package gpumap

import (
	"regexp"

	corev1 "k8s.io/api/core/v1"
)

// PoolLabels are where the makers of nodes say which pool a node is of: GKE, EKS, eksctl, AKS, Karpenter (also AKS' and
// EKS' own forms of it), OpenShift with hosted control planes.
var PoolLabels = []string{
	"cloud.google.com/gke-nodepool",
	"eks.amazonaws.com/nodegroup",
	"alpha.eksctl.io/nodegroup-name",
	"kubernetes.azure.com/agentpool",
	"karpenter.sh/nodepool",
	"hypershift.openshift.io/nodePool",
}

// openShiftConfig is where OpenShift names the configuration that its machine-config daemon gave a node: rendered-POOL-HASH.
const openShiftConfig = "machineconfiguration.openshift.io/currentConfig"

var renderedConfig = regexp.MustCompile(`^rendered-(.+)-[0-9a-f]{32}$`)

// NodePool returns the pool of a node, "" if nothing says it.
func NodePool(node *corev1.Node) string {
	for _, label := range PoolLabels {
		if pool := node.Labels[label]; pool != "" {
			return pool
		}
	}
	if m := renderedConfig.FindStringSubmatch(node.Annotations[openShiftConfig]); m != nil {
		return m[1]
	}
	return ""
}
