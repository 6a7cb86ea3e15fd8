#!/usr/bin/env bash
# The API server of the rig that `make rig-up` started goes away for OUTAGE_SECONDS (3600); see e2e/chaos/outage.py.
. "$(dirname "$0")/lib.sh"
"$RIG" status >/dev/null 2>&1 || die "the rig is down: make rig-up first"
"$RIG" exec python3 e2e/chaos/outage.py --seconds "${OUTAGE_SECONDS:-3600}"
