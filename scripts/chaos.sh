#!/usr/bin/env bash
# Chaos on the rig that `make rig-up` started: random edits while controllers, data planes, API server, etcd and network fail.
#   CHAOS_EDITS=10000                how many edits
#   CHAOS_ARGS="--seed 7 --faults leader,cut"   what else e2e/chaos/chaos.py takes
. "$(dirname "$0")/lib.sh"
"$RIG" status >/dev/null 2>&1 || die "the rig is down: make rig-up first"
# shellcheck disable=SC2086
"$RIG" exec python3 e2e/chaos/chaos.py --edits "${CHAOS_EDITS:-10000}" ${CHAOS_ARGS:-}
