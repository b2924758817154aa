# Berth: GPU memory scheduling for LLM inference pods.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo v0.0.0-dev)
COMMIT      ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
KUBE_VERSION := $(shell go list -m -f '{{.Version}}' k8s.io/kubernetes 2>/dev/null)
VERSION_PKG := github.com/berth-dev/berth/internal/version
KUBE_PKG    := k8s.io/component-base/version
LDFLAGS     := -s -w -X $(VERSION_PKG).version=$(VERSION) -X $(VERSION_PKG).commit=$(COMMIT) \
	-X $(KUBE_PKG).gitVersion=$(KUBE_VERSION) -X $(KUBE_PKG).gitMajor=1 -X $(KUBE_PKG).gitMinor=$(word 2,$(subst ., ,$(KUBE_VERSION)))
# go-nvml's own header marks functions as deprecated that its bindings wrap.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

# The tests and the binaries share one build cache, so all are built with cgo; images build the static ones without.
BINARIES := scheduler controller berth-lab
# Without plugins of kustomize that are shared objects, and without grpc's pages of traces, the linker leaves out the methods
# that nobody calls: half of kubectl-berth. All binaries of a release are built so; here only those that tests do not link too.
TAGS := kustomize_disable_go_plugin_support,grpcnotrace
PKG       = ./...
# The race detector runs where our own goroutines are, and not over the whole control plane that integration tests link.
RACE_PKG  = $(shell go list ./pkg/alloc ./pkg/evict ./pkg/gpustate ./pkg/plugin/... ./pkg/agent/... ./pkg/modelsource/... ./pkg/controller/... ./pkg/cli/... | \
	grep -v /integration)

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}'

.PHONY: build
build: ## Build all binaries into bin/ (the first time takes some ten minutes)
	@echo "Building $(BINARIES) kubectl kubectl-berth agent into bin/; the first time takes some ten minutes"
	@hack/build.sh -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(BINARIES)) k8s.io/kubernetes/cmd/kubectl
	@hack/build.sh -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/ ./cmd/kubectl-berth
	@hack/build.sh -tags '$(TAGS)' -ldflags '$(LDFLAGS) -extldflags=-Wl,-z,lazy' -o bin/ ./cmd/agent
	@cp cmd/kubectl-berth/kubectl_complete-berth bin/

.PHONY: test
test: ## Run the unit tests, and the integration tests against a real control plane
	go test -timeout 30m $(PKG)

.PHONY: test-short
test-short: ## Run the tests that need no control plane
	go test -short $(PKG)

.PHONY: e2e
e2e: build ## Run the end-to-end tests on real kubelets, in a kind cluster (see docs/e2e.md)
	$(RELEASE) hack/e2e.sh

.PHONY: test-handoff
test-handoff: ## Run the real NVIDIA container runtimes with each configuration that installers leave (part of test)
	go test -v -count=1 ./test/handoff

.PHONY: test-chart
test-chart: ## Test that the Helm chart renders what the kustomization has
	cd charts && go test -count=1 ./... # Go does not see that a manifest changed

# Prometheus' service discovery is what most of its modules are for. The tests read files outside of their module, and go's cache
# of results does not notice changes of those.
.PHONY: test-monitoring
test-monitoring: ## Check the rules for Prometheus, and run their tests and the dashboards' queries, with its own code
	cd hack/monitoring && go build -tags remove_all_sd -o ../../bin/tools/ github.com/prometheus/prometheus/cmd/promtool
	bin/tools/promtool check rules --lint=all --lint-fatal monitoring/rendered/rules.yaml
	bin/tools/promtool test rules monitoring/mixin/tests/*.yaml
	cd hack/monitoring && go test -count=1 -tags remove_all_sd ./...

.PHONY: test-ui
test-ui: ## Look at the page of kubectl berth ui in Chromium (installs it and axe-core on Debian; UPDATE=1 writes the docs' pictures)
	@hack/build.sh -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/ ./cmd/kubectl-berth
	hack/test-ui.sh -v

# Its pages need npm to be built: without them it answers by its API.
.PHONY: prometheus
prometheus: ## Build bin/prometheus, which berth-lab up --monitoring runs (some minutes the first time)
	cd hack/monitoring && go build -tags remove_all_sd -o ../../bin/ github.com/prometheus/prometheus/cmd/prometheus

.PHONY: test-kueue
test-kueue: ## Quotas by the real Kueue (compiled once, some ten minutes)
	cd test/kueue && go build -ldflags=-s -o ../../bin/kueue sigs.k8s.io/kueue/cmd/kueue
	KUEUE=$(CURDIR)/bin/kueue KUEUE_SOURCE=$$(cd test/kueue && go list -m -f '{{.Dir}}' sigs.k8s.io/kueue) \
		go test -count=1 -run TestKueue ./test/integration

.PHONY: test-karpenter
test-karpenter: ## Nodes by the real Karpenter with its KWOK provider (compiled once, some ten minutes)
	cd test/karpenter && go build -ldflags=-s -o ../../bin/karpenter-kwok sigs.k8s.io/karpenter/kwok
	KARPENTER=$(CURDIR)/bin/karpenter-kwok KARPENTER_SOURCE=$$(cd test/karpenter && go list -m -f '{{.Dir}}' sigs.k8s.io/karpenter) \
		go test -count=1 -run TestKarpenter ./test/integration

.PHONY: keda
keda: ## Build bin/keda and bin/kube-state-metrics, which test-keda runs (half an hour the first time, 38 minutes on a busy machine)
	cd test/keda && go build -ldflags=-s -o ../../bin/keda github.com/kedacore/keda/v2/cmd/operator
	cd test/keda && go build -ldflags=-s -o ../../bin/kube-state-metrics k8s.io/kube-state-metrics/v2

.PHONY: test-keda
test-keda: prometheus keda ## Idle models scaled to zero, and woken, by the real KEDA
	KEDA=$(CURDIR)/bin/keda KUBE_STATE_METRICS=$(CURDIR)/bin/kube-state-metrics \
		KEDA_SOURCE=$$(cd test/keda && go list -m -f '{{.Dir}}' github.com/kedacore/keda/v2) \
		go test -count=1 -run TestScaleToZero ./test/integration

.PHONY: test-skew
test-skew: ## Run the core scenarios on the real kube-apiservers of older versions (KUBE=1.36 for one)
	hack/test-skew.sh $(KUBE)

.PHONY: test-mixed
test-mixed: ## Run scheduler and agents of this and of an earlier commit together (OLD=COMMIT)
	hack/test-mixed.sh $(OLD)

.PHONY: test-upgrade
test-upgrade: ## Upgrade an earlier commit to this checkout, part by part, and back again (OLD=COMMIT, ORDER=agent-controller-scheduler)
	hack/test-upgrade.sh $(or $(OLD),5486c76) $(ORDER)

.PHONY: test-hardware
test-hardware: ## Build bin/hardware, which tests the agent on a machine with GPUs (see docs/agent.md)
	go build -ldflags '$(LDFLAGS) -extldflags=-Wl,-z,lazy' -o bin/ ./test/hardware
	@size=$$(wc -c <bin/hardware); if ((size > 40 << 20)); then echo "bin/hardware has $$size bytes, more than 40 MiB" >&2; exit 1; fi

.PHONY: race
race: ## Run the tests of the concurrent packages with the race detector
	go test -race -short $(RACE_PKG)

.PHONY: fuzz
fuzz: ## Fuzz what reads the bytes of others, a minute each (FUZZTIME=1h for longer)
	hack/fuzz.sh

# Releases are of a version: make images VERSION=v0.1.0 IMAGES=registry.example.com/berth
IMAGES  ?= berth-dev
RELEASE := VERSION='$(VERSION)' COMMIT='$(COMMIT)' IMAGES='$(IMAGES)' LDFLAGS='$(LDFLAGS)' TAGS='$(TAGS)'

.PHONY: dist
dist: ## Build the binaries of a release into dist/, reproducibly (GOARCH=arm64 for another architecture)
	$(RELEASE) build/binaries.sh dist

.PHONY: images
images: dist ## Pack the binaries of a release into container images
	$(RELEASE) build/images.sh dist

.PHONY: sbom
sbom: dist ## List what the binaries of a release are made of (CycloneDX)
	$(RELEASE) build/sbom.sh dist

.PHONY: release
release: ## Make all that a release consists of in dist/ (VERSION=v0.1.0 IMAGES=registry.example.com/berth), see docs/releasing.md
	$(RELEASE) build/release.sh dist

.PHONY: publish
publish: ## Push and sign what make release has made
	$(RELEASE) build/publish.sh dist '$(IMAGES)'

.PHONY: test-release
test-release: build ## Use each artifact of a release as users get it (DIST=dist: of what make release has made)
	$(RELEASE) hack/test-release.sh $(DIST)

.PHONY: reproduce
reproduce: dist ## Build the release again, elsewhere and from nothing, and compare every byte (ONLY=agent: just that)
	$(RELEASE) build/reproduce.sh dist $(ONLY)

.PHONY: look
look: ## See what the scheduler would do with a snapshot of a cluster: the map, why a pod waits, what if
	@hack/build.sh -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/ ./cmd/kubectl-berth
	@hack/look/look.sh

.PHONY: ui
ui: ## See that snapshot in a browser: fleet, pods, why they wait, what if
	@hack/build.sh -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/ ./cmd/kubectl-berth
	bin/kubectl-berth ui --open --from hack/look/cluster.json.gz

# berth-lab has the scheduler and the controller in it. It prefers those that make build left beside it, so these must not
# be of older source.
.PHONY: demo
demo: ## Bring up a real control plane with simulated GPUs, place deployments and draw the map
	@hack/build.sh -ldflags '$(LDFLAGS)' -o bin/ ./cmd/berth-lab $(patsubst bin/%,./cmd/%,$(wildcard bin/scheduler bin/controller))
	bin/berth-lab demo
	@printf '\nmake ui shows such a cluster in a browser: a snapshot of this one, without a control plane.\n'

.PHONY: bench
bench: ## Run the benchmarks: planner and filter, then scheduler throughput
	hack/bench.sh

N ?= 10
.PHONY: paused-leader
paused-leader: ## A leader stopped for 30 s in a wave of 600 pods, N times (default 10): no GPU may get two pods
	BERTH_PAUSED_LEADER=long go test ./test/integration -run '^TestPausedLeader$$' -count=$(N) -timeout 2h -v

SEED ?= 1
.PHONY: what-if
what-if: ## Ask what would become of 200 pods of a random cluster (SEED=N, NODES=N), and compare it with what does
	BERTH_WHAT_IF=200,$(SEED),$(or $(NODES),0) go test ./test/integration -run '^TestWhatIfSaysWhatTheSchedulerDoes$$' -count=1 -timeout 1h -v

.PHONY: lint
lint: ## Vet, run staticcheck, and look for functions that no binary can reach
	go vet $(PKG)
	cd hack/tools && go build -o ../../bin/tools/ honnef.co/go/tools/cmd/staticcheck golang.org/x/tools/cmd/deadcode
	bin/tools/staticcheck $(PKG)
	@dead="$$(bin/tools/deadcode ./cmd/...)" && { [ -z "$$dead" ] || { echo "$$dead" >&2; exit 1; }; }

.PHONY: generate
generate: ## Generate deep copies and CRDs
	hack/update-codegen.sh

.PHONY: verify
verify: ## Check formatting, generated files, go.mod, and shell scripts
	hack/verify.sh

.PHONY: clean
clean: ## Remove what make built
	rm -rf bin dist
