#!/usr/bin/env bash
# Copyright The Berth Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Checks what no test checks: formatting, go.mod, generated files, licence headers, shell scripts, leftovers. It only
# reads, runs all checks, and names every one that fails.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# files PATTERN... lists the files of the repository, new ones too.
files() { git ls-files --cached --others --exclude-standard -- "$@"; }

# nothing COMMAND... succeeds if the command prints nothing; what it prints are the offenders.
nothing() {
  local out
  out="$("$@")"
  [[ -z "$out" ]] || { printf '%s\n' "$out"; return 1; }
}

formatted() { files '*.go' | xargs gofmt -s -l; }

tidy() {
  local module
  for module in . build/release build/sign build/tools charts hack/tools hack/kind/tools hack/monitoring test/handoff/toolkit/* test/release test/ui \
    test/skew/v1.35 test/skew/v1.36 test/kueue test/karpenter test/keda; do
    go -C "$module" mod tidy -diff || return
  done
}

generated() { hack/update-codegen.sh --verify; }

mixin() { hack/update-monitoring.sh --verify; }

without_licence() {
  local f
  files '*.go' '*.sh' '*.c' '*.h' '.ci/run' | while read -r f; do
    # Build tags and the shell's first line may come before it.
    head -n 5 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || echo "$f has no licence header (hack/boilerplate.go.txt)"
  done
}

scripts() {
  local scripts
  mapfile -t scripts < <(files '*.sh' '.ci/run')
  bash -n "${scripts[@]}" || return
  if command -v shellcheck >/dev/null; then
    shellcheck "${scripts[@]}"
  else
    echo "shellcheck is not installed: only the syntax was checked"
  fi
}

workflows() { "$(build/tool.sh actionlint)/actionlint"; }

# grep_files PATTERN [FILES...] prints the lines that match, but for those of this file.
grep_files() {
  local pattern="$1"
  shift
  git grep -nIE --untracked "$pattern" -- "${@:-.}" ':!hack/verify.sh'
}

leftovers() { grep_files '\b(TODO|FIXME|XXX)\b|^(<<<<<<<|>>>>>>>) ' ':!*.sum'; }

# Where packages come from, and where a developer keeps other folders, is the machine's business.
machine_settings() {
  grep_files '\b(GOPROXY|GOSUMDB|GONOSUMDB|npm_config_registry)\b|sources\.list'
  grep_files '\.\./shared' ':!.ci/run'
}

failed=()
check() {
  local name="$1"
  shift
  echo "-- $name"
  "$@" || failed+=("$name")
}

check "gofmt -s" nothing formatted
check "go mod tidy" tidy
check "generated files" generated
check "rules and dashboards of the mixin" mixin
check "licence headers" nothing without_licence
check "shell scripts" scripts
check "workflows" workflows
check "nothing left to do" nothing leftovers
check "nothing of one machine" nothing machine_settings

if ((${#failed[@]})); then
  printf 'verify failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "verify passed"
