#!/usr/bin/env bash
# Install what `make test` uses beside the compiler: cargo-deny, the packages that the rig needs, and cargo-nextest when asked
# for (`scripts/tools.sh nextest`; tests run without it too). Versions are pinned here and nowhere else.
. "$(dirname "$0")/lib.sh"
DENY=0.20.2
NEXTEST=0.9.151

# cargo_tool NAME VERSION: leave an installed one alone, whatever its version: it is the user's.
cargo_tool() {
  have "$1" && return
  say "installing $1 $2 (compiled once, a few minutes)"
  # Its own target directory is temporary, so that CARGO_TARGET_DIR does not fill with release builds of tools.
  env -u CARGO_TARGET_DIR cargo install --locked --quiet "$1" --version "$2" || die "$1 could not be installed: cargo install --locked $1 --version $2"
}

need_build
if is_root && have apt-get; then
  missing=()
  for pair in jq:jq ip:iproute2 nsenter:util-linux python3:python3; do have "${pair%%:*}" || missing+=("${pair#*:}"); done
  [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
fi
cargo_tool cargo-deny $DENY
[ "${1:-}" != nextest ] || cargo_tool cargo-nextest $NEXTEST
