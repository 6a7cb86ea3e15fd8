#!/usr/bin/env bash
# go.sh DIR: the Go program of DIR, built when it has changed; prints its path.
# Exit status 77: not on this machine; the reason is on standard error.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command -v go >/dev/null || { echo "no go" >&2; exit 77; }
target=${CARGO_TARGET_DIR:-$here/../../target}
mkdir -p "$target/peers"
program=$(cd "$target/peers" && pwd)/$(basename "$1")
cd "$1"
go build -o "$program" .
printf '%s\n' "$program"
