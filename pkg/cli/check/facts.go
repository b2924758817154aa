// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/berth-dev/berth/pkg/cli/gpumap"
	"github.com/berth-dev/berth/pkg/plugin/config"
	"github.com/berth-dev/berth/pkg/plugin/policies"
)

// What is read, as people are told of it. Facts.Unread has those that could not be.
const (
	Nodes           = "nodes"
	Pods            = "pods"
	GPUNodes        = "GPUNodes"
	ModelProfiles   = "ModelProfiles"
	Leases          = "Leases in berth-system"
	ConfigMaps      = "ConfigMaps in berth-system"
	RuntimeClasses  = "RuntimeClasses"
	DRA             = "ResourceSlices and ResourceClaims"
	Deployments     = "Deployments in berth-system"
	DaemonSets      = "DaemonSets in berth-system"
	Events          = "Events in berth-system"
	LeaderTerms     = "LeaderTerms"
	Quotas          = "ResourceQuotas"
	ServerVersion   = "the version of the API server"
	MutatingVersion = "whether the API server serves mutating admission policies"
)

// Facts are what is known of a cluster.
type Facts struct {
	// Objects are nodes, pods that have not ended, reports, Leases, profiles, and what claims hold; Time among them.
	gpumap.Objects
	// Self is the version of this program, and KubeSelf the version of Kubernetes that the scheduler of this version is built from.
	Self     string
	KubeSelf *version.Version
	// FromFile says that it is a snapshot and no cluster.
	FromFile bool
	// Unread says of what could not be read, by the names above, why.
	Unread map[string]string

	// Server is the lowest version that the API servers of the cluster serve.
	Server *version.Version
	// Mutating is the version in which mutating admission policies are served; empty = they are not.
	Mutating string
	// Installed is what was found of each object of Shipped and Optional, by KeyOf.
	Installed map[string]Found

	Deployments []appsv1.Deployment
	DaemonSets  []appsv1.DaemonSet
	ConfigMaps  []corev1.ConfigMap
	// Config is the KubeSchedulerConfiguration of the scheduler; empty = none was found. ConfigProblem says why the arguments
	// in it cannot be read, and ConfigFlaws what the scheduler itself would make of it. Settings are its arguments, or the defaults.
	// Args are its arguments; nil = they are not known.
	Config        string
	ConfigName    string
	ConfigProblem string
	ConfigFlaws   []string
	Settings      gpumap.Settings
	Args          *config.Args
	// NodesToScore is percentageOfNodesToScore of Berth's profile, or of all; 0 = the scheduler goes by the number of nodes.
	NodesToScore int32
	// Unelected says that the scheduler's configuration has no leader election.
	Unelected bool
	Classes   []nodev1.RuntimeClass
	Events    []corev1.Event
	Quotas    []corev1.ResourceQuota
	// TermHolder is whose Bindings are taken; empty = there is no LeaderTerm.
	TermHolder string
	// Ready is what schedulers that are not ready said of their checks, by pod.
	Ready map[string]string
	// Probed is what dry runs found; nil if none was asked for.
	Probed []policies.Finding
}

// Found is an object as it is in the cluster; the zero value is one that is not there.
type Found struct {
	Object *unstructured.Unstructured
	// Unread says why it is not known whether it is there.
	Unread string
}

// InFile is why a snapshot does not tell something.
const InFile = "a snapshot does not have it"

// LeftOut are the policies that are not installed on purpose, as the scheduler's arguments say.
func (f *Facts) LeftOut() []string {
	if f.Args == nil {
		return nil
	}
	return f.Args.PoliciesLeftOut
}

// unread says why something could not be read; "" if it was.
func (f *Facts) unread(what string) string { return f.Unread[what] }

func (f *Facts) found(key string) Found {
	found, ok := f.Installed[key]
	if !ok && f.FromFile {
		return Found{Unread: InFile}
	}
	return found
}
