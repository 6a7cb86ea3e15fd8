#!/usr/bin/env bash
# node.sh DIR: DIR's program client.mjs beside the packages of DIR/package-lock.json, installed when they are not there yet; prints
# its path. Exit status 77: not on this machine; the reason is on standard error.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
skip() { printf '%s\n' "$*" >&2; exit 77; }
for tool in node npm; do command -v $tool >/dev/null || skip "no $tool"; done
node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' || skip "Node $(node --version), 20 or newer is needed"
target=${CARGO_TARGET_DIR:-$here/../../target}
dir=$target/peers/$(basename "$1")-$( (node --version; cat "$1/package-lock.json") | sha256sum | cut -c1-12)
mkdir -p "$dir"
exec 9>"$dir.lock"
flock 9
if [ ! -e "$dir/ready" ]; then
  cp "$1/package.json" "$1/package-lock.json" "$dir"
  (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2 || skip "npm cannot install the packages of $1/package.json"
  touch "$dir/ready"
fi
cp "$1/client.mjs" "$dir"
printf '%s\n' "$(cd "$dir" && pwd)/client.mjs"
