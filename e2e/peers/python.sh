#!/usr/bin/env bash
# python.sh DIR: a Python with the packages of DIR/requirements.txt, made when it is not there yet; prints its path.
# Exit status 77: not on this machine; the reason is on standard error.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
list=$1/requirements.txt
python=${PYTHON:-python3}
skip() { printf '%s\n' "$*" >&2; exit 77; }
command -v "$python" >/dev/null || skip "no $python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || skip "$python is older than 3.11"
target=${CARGO_TARGET_DIR:-$here/../../target}
env=$target/peers/$(basename "$1")-$( ("$python" --version; cat "$list") | sha256sum | cut -c1-12)
mkdir -p "$target/peers"
exec 9>"$env.lock"
flock 9
if [ ! -e "$env/ready" ]; then
  rm -rf "$env"
  "$python" -m venv "$env" >&2 || skip "$python cannot make a virtual environment (Debian: python3-venv)"
  "$env/bin/python" -m pip install --quiet --disable-pip-version-check -r "$list" >&2 || skip "pip cannot install $(paste -sd' ' "$list")"
  touch "$env/ready"
fi
printf '%s\n' "$env/bin/python"
