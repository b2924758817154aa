// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package check

// What is checked. docs/is-it-set-up-right.md has an entry for each.
const (
	idServerVersion = "server-version"
	idParts         = "component-versions"
	idOwnVersion    = "own-version"

	idCRDInstalled = "crd-installed"
	idCRDVersion   = "crd-version"
	idCRDFields    = "crd-fields"

	idPolicyInstalled = "policy-installed"
	idPolicyEnforced  = "policy-enforced"
	idPolicyTypes     = "policy-type-checking"
	idPolicyShipped   = "policy-as-shipped"
	idPolicyFound     = "policy-found-by-scheduler"
	idPolicyRefuses   = "policy-refuses"
	idEnforcement     = "enforcement"
	idResource        = "gpu-memory-resource"
	idQuota           = "gpu-memory-quota"

	idRoles    = "roles"
	idBindings = "role-bindings"

	idSchedulerPods   = "scheduler-pods"
	idSchedulerLease  = "scheduler-lease"
	idSchedulerConfig = "scheduler-config"
	idLeaderTerm      = "leader-term"
	idOneConfig       = "scheduler-one-config"
	idSampled         = "scheduler-sees-all-nodes"
	idSchedulerReady  = "scheduler-ready"

	idControllerPods  = "controller-pods"
	idControllerLease = "controller-lease"
	idProfiles        = "model-profiles"

	idAgentPods   = "agent-pods"
	idReported    = "agent-report"
	idFresh       = "agent-fresh"
	idReadable    = "report-readable"
	idOrphans     = "report-without-node"
	idContested   = "gpu-contested"
	idOverbooked  = "gpu-overbooked"
	idHealth      = "gpu-health"
	idAssignments = "gpu-assignments"

	idRuntimeClass = "runtime-class"
	idHandOff      = "node-hand-off"
	idOneOwner     = "node-one-owner"
	idLabelled     = "node-labelled"
	idNodeReady    = "node-ready"
	idDriver       = "node-driver-upgrade"
	idCordoned     = "gpu-cordoned"
	idLimits       = "node-enforcement"
	idAdvertised   = "node-gpu-memory"

	idServed     = "pods-served"
	idTried      = "pods-tried"
	idAllocation = "pod-allocation"
)

// Pages to read.
const (
	pageSupport       = "docs/support.md#kubernetes"
	pageUpgrade       = "docs/operations.md#upgrading-berth"
	pageInstall       = "docs/install.md#install"
	pageNodes         = "docs/install.md#which-nodes"
	pageToolkit       = "docs/install.md#the-container-toolkit"
	pagePolicies      = "docs/security.md#when-policies-are-missing"
	pageEnforcement   = "docs/enforcement.md#by-the-container-toolkit"
	pageAccounts      = "docs/security.md#what-each-account-can-do"
	pageProfile       = "docs/scheduler-configuration.md#profile"
	pageReplicas      = "docs/scheduler-configuration.md#several-replicas"
	pageTroubles      = "docs/agent.md#troubleshooting"
	pageHealth        = "docs/agent.md#health"
	pageHandOff       = "docs/handoff.md#what-the-agent-finds-out"
	pageModels        = "docs/models.md#reasons-and-what-to-do"
	pageDriver        = "docs/operations.md#driver-upgrade"
	pageDrain         = "docs/operations.md#drain"
	pageNodeReasons   = "docs/reasons.md#of-a-node"
	pageDeviceReasons = "docs/reasons.md#of-a-gpu"
	pageOlder         = "docs/install.md#kubernetes-135"
	pageFragmentation = "docs/scheduler-configuration.md#the-strategy-fragmentation"
	pageCordoned      = "docs/gpu-repairs.md#uncordon-it"
	pageLimits        = "docs/enforcement.md#what-is-enforced-when"
	pageResource      = "docs/quota.md#switch-it-on"
	pageAdvertised    = "docs/quota.md#what-nodes-advertise"
	pageAgentNeeds    = "docs/agent.md#what-it-needs-and-why"
)
