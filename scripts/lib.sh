# Shared by the scripts beside it; source it, do not run it.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
RIG=$ROOT/e2e/rig/rig
if [ -z "${RIG_BIN:-}" ]; then
  RIG_BIN=${HOME:-/nonexistent}/.cache/diolkos-rig
  mkdir -p "$RIG_BIN" 2>/dev/null || RIG_BIN=$TARGET/rig-bin
fi
export RIG_BIN

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# step NAME COMMAND...: run it in view, remember how long it took. Output is also kept in $LOGS when that is set.
STEPS=()
step() {
  local name=$1 start=$SECONDS rc=0; shift
  printf '\n==> %s: %s\n' "$name" "$*"
  if [ -n "${LOGS:-}" ]; then
    "$@" 2>&1 | tee "$LOGS/${name// /-}.log" || rc=$?
  else
    "$@" || rc=$?
  fi
  STEPS+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name$([ $rc = 0 ] || echo ' FAILED')")")
  return $rc
}
steps_report() { printf '\n'; printf '%s\n' "${STEPS[@]}"; }

# apt_install PACKAGE...: install when we may, else say exactly what is missing.
apt_install() {
  if is_root && have apt-get; then
    say "installing: $*"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  else
    die "missing: $*. Install with: apt-get install -y $* (or your system's equivalent)"
  fi
}

# need_load: what puts load on a data plane (bench/data_plane).
need_load() {
  local missing=()
  have python3 || missing+=(python3)
  have wrk || missing+=(wrk)
  have h2load || missing+=(nghttp2-client)
  have openssl || missing+=(openssl)
  [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

# need_build: the compiler, and what the native parts of dependencies are built with: C (aws-lc, blake3, zstd), and cmake
# for the zlib-ng that pingora-core links.
need_build() {
  local missing=()
  have cc || missing+=(gcc libc6-dev)
  have make || missing+=(make)
  have cmake || missing+=(cmake)
  have curl || missing+=(curl ca-certificates)
  [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
  if ! have cargo && [ -x "${CARGO_HOME:-${HOME:-}/.cargo}/bin/cargo" ]; then
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  fi
  if ! have cargo && is_root && have apt-cache && [ -n "$(apt-cache madison rustup 2>/dev/null)" ]; then
    apt_install rustup
  fi
  have cargo || die "no Rust toolchain. Install rustup from https://rustup.rs and run this again; it fetches the version of rust-toolchain.toml by itself"
  # Outside rustup nothing reads rust-toolchain.toml: then the version must already be new enough.
  if ! have rustup; then
    local want got; want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); got=$(cargo --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$want" "$got" | sort -V | head -1)" = "$want" ] || die "cargo $got is too old, $want or newer is needed (https://rustup.rs)"
  fi
}

# rig_obstacles: why the rig cannot run here, one reason a line; nothing when it can.
rig_obstacles() {
  [ "$(uname -s)" = Linux ] || { say "not Linux"; return; }
  is_root || say "not root (it makes network namespaces and cgroups)"
  if have go; then
    local v; v=$(go env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//')
    [ "$(printf '%s\n' 1.26 "$v" | sort -V | head -1)" = 1.26 ] || say "Go $v, 1.26 or newer is needed"
  else
    say "no Go (1.26 or newer)"
  fi
  local c; for c in gcc python3 jq unshare nsenter ip; do have $c || say "no $c"; done
  [ -d /sys/fs/cgroup/memory ] || say "no cgroup v1 hierarchies under /sys/fs/cgroup"
  # Inside, the node hides these behind its own.
  case $ROOT in /run/* | /var/lib/* | /var/log/*) say "the clone lies under $(cut -d/ -f1-3 <<<"$ROOT"), which the rig cannot see";; esac
  local free; free=$(df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 {print $4}')
  [ "${free:-0}" -ge 700 ] || say "less than 700 MB free in /dev/shm"
}
