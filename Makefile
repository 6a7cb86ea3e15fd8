# Everything a person or a CI job runs. Each target is a script that can be read and run on its own.
.DEFAULT_GOAL := help
.PHONY: help quickstart test tools fmt lint tidy gen cases differential faults fuzz charts rig-up rig-cases rig-charts conformance gitops chaos outage rig-down bench bench-propagation bench-scale bench-control-plane bench-instructions release

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-20s %s\n' "$$name" "$$text"; done

quickstart: ## build, start the gateway on examples/quickstart and show what it does (QUICKSTART_ONCE=1: then stop)
	@scripts/quickstart.sh

test: ## everything: format, tidy, clippy, deny, unit tests, cases standalone and on a real Kubernetes
	@scripts/test.sh

tools: ## install what `make test` uses beside the compiler
	@scripts/tools.sh

fmt: ## format all Rust code
	cargo fmt --all

lint: ## clippy on everything, warnings are errors
	cargo clippy --workspace --all-targets --locked -- -D warnings

tidy: ## direction of dependencies and generated files
	cargo xtask tidy

gen: ## write generated files (CRDs and what is made from them)
	cargo xtask gen

cases: ## the cases of e2e/cases in standalone mode (CASE=name for one)
	cargo build --locked --workspace --bins
	cargo test --locked --workspace --test standalone -- $(CASE)

differential: ## ambiguous byte streams through the gateway to nginx, Node and Go
	@scripts/differential.sh

faults: ## backends, names and tables that misbehave under load (FAULT_SECONDS=300 each; `scripts/faults.sh TEST` for one)
	@scripts/faults.sh

fuzz: ## every fuzz target in turn (FUZZ_SECONDS=300 each; `scripts/fuzz.sh TARGET` for one); installs nightly and cargo-fuzz
	@scripts/fuzz.sh

charts: ## the Helm charts: lint, wrong values, and that they hold what deploy/ holds (Go 1.26; no cluster)
	@scripts/charts.sh check

rig-up: ## start a real one-node Kubernetes with Diolkos on it (root, Linux, Go 1.26)
	@scripts/rig.sh up

rig-cases: ## the cases of e2e/cases on the rig that `make rig-up` started (CASE=name for one)
	@scripts/rig.sh cases $(CASE)

rig-charts: ## Diolkos installed, upgraded under load and removed by Helm, on the rig that `make rig-up` started
	@scripts/charts.sh rig

conformance: ## the Gateway API conformance suite on the rig that `make rig-up` started (RUN=HTTPRouteMatching for one test, CHANNEL=experimental)
	@scripts/conformance.sh $(RUN)

gitops: ## what Flux (kstatus) and Argo CD make of our statuses, on the rig that `make rig-up` started
	@scripts/gitops.sh

chaos: ## random edits on the rig while controllers, data planes, API server, etcd and network fail (CHAOS_EDITS=10000)
	@scripts/chaos.sh

outage: ## the rig's API server away for an hour, while data planes and controllers die (OUTAGE_SECONDS=3600)
	@scripts/outage.sh

rig-down: ## stop it, leaving nothing behind
	@scripts/rig.sh down

release: ## the programs as they are released, in target/dist, compiled with a profile (PLAIN=1: without)
	@scripts/release.sh

bench: ## our data plane beside nginx, HAProxy, Envoy, Traefik and Caddy (BENCH=h1,sse for some scenarios, ROUNDS=11)
	@bench/data_plane.sh

bench-propagation: ## from apply to the first answer, on the rig that `make rig-up` started
	@e2e/rig/rig exec bench/propagation.py

bench-scale: ## 1,000 and 10,000 HTTPRoutes with Services and endpoints on the rig (PROFILE=release make rig-up)
	@bench/scale.sh

bench-control-plane: ## the controller's own work for 10,000 HTTPRoutes, without a cluster: time, memory, CPU of changes
	cargo build --release --locked --workspace --example control_plane
	@"$${CARGO_TARGET_DIR:-target}/release/examples/control_plane"

bench-instructions: ## instructions per proxied request, beside nginx and HAProxy
	@bench/instructions.sh
