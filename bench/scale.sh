#!/usr/bin/env bash
# The control plane at scale, on the rig that `make rig-up` started (with release builds: PROFILE=release make rig-up).
#   SCALE_ARGS="--sizes 1000 --samples 100"   what bench/scale.py takes
. "$(dirname "$0")/../scripts/lib.sh"
"$RIG" status >/dev/null 2>&1 || die "the rig is down: make rig-up first"
# shellcheck disable=SC2086
"$RIG" exec python3 bench/scale.py ${SCALE_ARGS:-}
