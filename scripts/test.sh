#!/usr/bin/env bash
# Everything that must hold, in the order in which it is cheapest to fail. `make test` runs it.
#   REQUIRE_RIG=1   a machine on which the Kubernetes rig cannot run is a failure, not a skip
. "$(dirname "$0")/lib.sh"
LOGS=${LOGS:-$(mktemp -d)}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
rig_build=
rig_ours=
finish() {
  local rc=$?
  trap - EXIT
  [ -z "$rig_build" ] || kill -- "-$rig_build" 2>/dev/null || true
  # A rig that does not go is no verdict on the tests: it is said, and the next one starts over what it left.
  [ -z "$rig_ours" ] || scripts/rig.sh down || say "the rig was not taken down: scripts/rig.sh down"
  steps_report
  [ $rc = 0 ] && closing_line || { failures; say "make test: FAILED"; exit $rc; }
}
# What failed and the first line of why, at the end, where it is looked for.
failures() {
  sed 's/\x1b\[[0-9;]*m//g' "$LOGS"/*.log | grep -A 3 -E '^---- .* ----$' | cut -c 1-500 | head -60 || true
}
# One line in the form of cargo's own, summed over every runner of this run.
closing_line() {
  cat "$LOGS"/*.log | sed 's/\x1b\[[0-9;]*m//g' | awk '
    /^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1); if ($i ~ /^ignored/) s += $(i-1) } }
    /^ *Summary \[/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i-1); if ($i ~ /^failed/) f += $(i-1); } }
    END { printf "\ntest result: %s. %d passed; %d failed; %d ignored\n", f ? "FAILED" : "ok", p, f, s }'
}
trap finish EXIT
# Otherwise what had passed by then would stand there as the result.
trap 'exit 130' INT
trap 'exit 143' TERM

deny() {
  # The advisory database is a git repository on another host than the crates; a machine may reach one and not the other.
  if cargo deny --locked fetch db >"$LOGS/advisory-db.txt" 2>&1; then
    cargo deny --locked check
  else
    say "NOT CHECKED: advisories; the advisory database could not be fetched: $(grep -m1 -i 'error\|failed' "$LOGS/advisory-db.txt" || tail -1 "$LOGS/advisory-db.txt")"
    cargo deny --locked check bans licenses sources
  fi
}
# What needs the rig has its own steps below: here it is left out, or says that it is skipped.
unit() {
  if have cargo-nextest; then
    cargo nextest run --locked --workspace --no-fail-fast --no-tests=pass \
      -E 'not binary(standalone) and not binary(cluster) and not binary(api_server)'
  else
    # By name, because leaving a package out would be another selection.
    local tests=() file
    for file in {crds,controller,dataplane,crates/*}/tests/*.rs; do tests+=(--test "$(basename "$file" .rs)"); done
    env -u REQUIRE_RIG cargo test --locked --workspace --lib --bins "${tests[@]}" --no-fail-fast
  fi
}

step "tools" scripts/tools.sh

obstacles=$(rig_obstacles)
if [ -n "$obstacles" ] && [ "${REQUIRE_RIG:-}" = 1 ]; then
  die "REQUIRE_RIG=1, but the rig cannot run here: $(paste -sd, - <<<"$obstacles" | sed 's/,/, /g')"
fi
if [ -z "$obstacles" ]; then
  # Go's build fills the gaps that cargo leaves; cargo keeps the upper hand.
  setsid nice -n 10 "$RIG" build core helm >"$LOGS/rig-build.txt" 2>&1 &
  rig_build=$!
fi

step "fmt" cargo fmt --all --check
# One selection of packages for all builds: another would choose other features and compile the world once more.
step "build" cargo build --locked --workspace --bins
step "tidy" "$TARGET/debug/diolkos-xtask" tidy
step "deny" deny
step "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
step "unit tests" unit
step "doc tests" cargo test --locked --workspace --doc
step "cases standalone" cargo test --locked --workspace --test standalone
step "differential" scripts/differential.sh
step "h2spec" scripts/h2spec.sh

if [ -n "$obstacles" ]; then
  printf '\n==> cases cluster: SKIPPED, the rig cannot run here:\n'
  sed 's/^/      /' <<<"$obstacles"
  say "    not run: the CRD schema tests against an API server, the Helm charts (make charts), and these cases:"
  grep -lE '^modes:.*cluster' e2e/cases/*/case.yaml | sed 's|e2e/cases/\(.*\)/case.yaml|      \1|'
  STEPS+=("    -    cases cluster SKIPPED: $(head -1 <<<"$obstacles")")
else
  wait "$rig_build" || true
  rig_build=
  step "rig build" "$RIG" build core helm
  step "charts" scripts/charts.sh check
  "$RIG" status >/dev/null 2>&1 || rig_ours=1
  step "rig up" scripts/rig.sh up
  step "CRD schemas on the API server" scripts/rig.sh crd-test
  step "cases cluster" scripts/rig.sh cases
  step "gitops" scripts/gitops.sh
  step "charts on the rig" scripts/charts.sh rig
  step "conformance" env REPORT="$LOGS/conformance.yaml" scripts/conformance.sh
fi
