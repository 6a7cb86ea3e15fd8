#!/usr/bin/env bash
# Faults under load, one kind after the other: `scripts/faults.sh [TEST...]`, all by default. Each says what came of its requests.
#   FAULT_SECONDS=300   for each kind
. "$(dirname "$0")/lib.sh"
export FAULT_SECONDS=${FAULT_SECONDS:-300}
need_build
run() { cargo test --locked --quiet --workspace --test faults -- "$@"; }
tests=("$@")
[ ${#tests[@]} != 0 ] || mapfile -t tests < <(run --list --format terse | sed -n 's/: test$//p')
for test in "${tests[@]}"; do
  say "faults: $test, $FAULT_SECONDS s"
  run --exact "$test" --nocapture
done
