#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Fuzzes what reads the bytes of others, each target for FUZZTIME (one minute). Arguments choose targets by a part of their
# package:
#
#   hack/fuzz.sh                                # all of them; CI gives each half a minute
#   FUZZTIME=1h hack/fuzz.sh modelsource        # one of them, for longer
#
# What is found interesting is kept below $(go env GOCACHE)/fuzz, which "go clean -cache" leaves alone, and the next run goes on
# from there. An input that fails is written below testdata/fuzz of its package: commit it with the mend, and go test
# tries it from then on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What others write, and what reads it. Other fuzz targets read what Berth writes itself: go test runs them on their seeds.
targets=(
  "./api/v1alpha1 FuzzParsePodRequest"            # annotations of pods, quantities
  "./pkg/gpunode FuzzWhatTheCRDAdmitsIsRead"      # reports of nodes
  "./pkg/modelsource FuzzHubAnswers"              # listings and manifests of model hubs
  "./pkg/estimator/gguf FuzzReadHeader"           # model files
  "./pkg/estimator/safetensors FuzzReadHeader"    # model files, and their indices
  "./pkg/estimator/hfconfig FuzzParse"            # config.json
  "./pkg/estimator/engineargs FuzzParse"          # start commands of engines
  "./pkg/estimator FuzzEstimate"                  # models of ModelProfiles
)

failed=()
for target in "${targets[@]}"; do
  read -r package name <<<"$target"
  if (($# > 0)); then
    chosen=
    for part in "$@"; do [[ "$package" == *"$part"* ]] && chosen=1; done
    [[ -n "$chosen" ]] || continue
  fi
  echo "== $package $name"
  # An input is made smaller for a few seconds only: it is the failure that matters.
  go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-1m}" -fuzzminimizetime 5s -timeout 0 "$package" || failed+=("$package $name")
done
echo "kept in $(go env GOCACHE)/fuzz: $(find "$(go env GOCACHE)/fuzz" -type f 2>/dev/null | wc -l) inputs"

if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}" >&2
  found="$(git ls-files --others --modified --exclude-standard -- '*/testdata/fuzz/*')"
  [[ -z "$found" ]] || printf 'commit what was found, with its mend:\n%s\n' "$found" >&2
  exit 1
fi
