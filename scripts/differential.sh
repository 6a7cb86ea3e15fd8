#!/usr/bin/env bash
# Request smuggling: hundreds of ambiguous byte streams through the gateway to nginx, Node and Go; no two readings of any.
#   VARIATIONS=300   random variations beside the hand-written streams
. "$(dirname "$0")/lib.sh"
! have nginx && is_root && have apt-get && apt_install nginx-light
missing=()
for tool in python3 nginx node go; do have $tool || missing+=($tool); done
if [ ${#missing[@]} != 0 ]; then
  [ "${REQUIRE_RIG:-}" != 1 ] || die "REQUIRE_RIG=1, but there is no ${missing[*]} here"
  say "SKIPPED: the differential corpus, for want of ${missing[*]}"
  exit 0
fi
cargo build --locked --quiet --workspace --bins
python3 e2e/differential/run.py "$TARGET/debug/diolkos" "${VARIATIONS:-300}"
