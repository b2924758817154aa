#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Asks kubectl berth about a cluster that is a file: a snapshot of the lab of "make demo" in the end. The scheduler's own
# code answers; no cluster runs. The file is made so:
#
#   bin/berth-lab demo --keep --kubeconfig lab.kubeconfig &
#   bin/kubectl-berth snapshot --kubeconfig lab.kubeconfig -o hack/look/cluster.json.gz
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

ask() {
  # shellcheck disable=SC2016 # the dollar is a prompt
  printf '\n$ kubectl berth %s --from hack/look/cluster.json.gz\n' "$*"
  bin/kubectl-berth "$@" --from hack/look/cluster.json.gz
}

printf '\nWhat each GPU holds, and who waits:\n'
ask top
printf '\nWhy this one waits:\n'
ask explain pod/llama-405b-6b8489b64c-c7mnf
printf '\nWhere those that wait would go if there were two more nodes of 8 H200:\n'
ask what-if --add-node h200-141x8=2
