#!/usr/bin/env bash
# The programs as they are released, in $TARGET/dist: diolkos and diolkos-dataplane compiled with a profile of what the data plane does
# under load, which takes a quarter off a request; diolkos-controller without.
# The profile is made here: an instrumented data plane serves the scenarios of bench/data_plane, alone, with no regard to how fast.
#   PLAIN=1   without a profile, which is quicker
. "$(dirname "$0")/lib.sh"
need_build

SCENARIOS=h1,tls_h1,tls_h2,h2c,handshakes,sse,routes
HOST=$(rustc -vV | sed -n 's/^host: //p')
DIST=$TARGET/dist
PROFILE_DIR=$TARGET/profile
FLAGS=${RUSTFLAGS:-}

# build DIRECTORY FLAGS PROGRAM...: with --target, so that flags are for what is built and not for what builds it.
build() {
  local directory=$1 flags=$2 program; shift 2
  local bins=(); for program in "$@"; do bins+=(--bin "$program"); done
  # By name: with link-time optimisation each program takes minutes.
  RUSTFLAGS="$FLAGS $flags" cargo build --release --locked --workspace --target "$HOST" --target-dir "$directory" "${bins[@]}"
}

train() {
  local instrumented=$PROFILE_DIR/target/$HOST/release/diolkos-dataplane programs=$PROFILE_DIR/programs
  build "$PROFILE_DIR/target" "-Cprofile-generate=$PROFILE_DIR/raw" diolkos-dataplane
  [ "$PROFILE_DIR/data-plane.profdata" -nt "$instrumented" ] && return
  cargo build --locked --workspace --bin diolkos --bin bench-tool --example push
  rm -rf "$programs" "$PROFILE_DIR/raw"
  mkdir -p "$programs/examples"
  ln -s "$TARGET/debug/diolkos" "$TARGET/debug/bench-tool" "$instrumented" "$programs"
  ln -s "$TARGET/debug/examples/push" "$programs/examples"
  python3 "$ROOT/bench/data_plane" --programs "$programs" --packages "$programs" --peers diolkos --rounds 2 --only $SCENARIOS
  "$(rustc --print sysroot)/lib/rustlib/$HOST/bin/llvm-profdata" merge -o "$PROFILE_DIR/data-plane.profdata" "$PROFILE_DIR"/raw/*.profraw
}

mkdir -p "$DIST"
if [ -n "${PLAIN:-}" ]; then
  build "$TARGET" "" diolkos diolkos-dataplane diolkos-controller
  cp "$TARGET/$HOST/release"/{diolkos,diolkos-dataplane,diolkos-controller} "$DIST"
else
  need_load
  have rustup || die "the profile is read by llvm-profdata of the compiler's own version: install rustup, or build with PLAIN=1"
  rustup component add llvm-tools
  train
  # Named by what is in it: what was built with another one is built anew.
  profile=$PROFILE_DIR/$(sha256sum "$PROFILE_DIR/data-plane.profdata" | cut -c1-16).profdata
  cp "$PROFILE_DIR/data-plane.profdata" "$profile"
  build "$TARGET/profiled" "-Cprofile-use=$profile" diolkos diolkos-dataplane
  cp "$TARGET/profiled/$HOST/release"/{diolkos,diolkos-dataplane} "$DIST"
  build "$TARGET" "" diolkos-controller
  cp "$TARGET/$HOST/release/diolkos-controller" "$DIST"
fi
ls -l "$DIST"
