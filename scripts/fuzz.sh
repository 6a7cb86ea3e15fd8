#!/usr/bin/env bash
# Runs fuzz targets: `scripts/fuzz.sh [TARGET...]`, all by default, from the committed seeds. A crash ends it with its input.
#   FUZZ_SECONDS=300   for each target
. "$(dirname "$0")/lib.sh"
seconds=${FUZZ_SECONDS:-300}
need_build
# libFuzzer needs the compiler's coverage counters, which stable does not offer.
toolchain=${FUZZ_TOOLCHAIN:-nightly}
rustup run "$toolchain" rustc --version >/dev/null 2>&1 || rustup toolchain install "$toolchain" --profile minimal
have cargo-fuzz || cargo install --locked --quiet cargo-fuzz --version 0.13.2
targets=("$@")
[ ${#targets[@]} != 0 ] || mapfile -t targets < <(cd fuzz/fuzz_targets && ls *.rs | sed 's/\.rs$//')
for target in "${targets[@]}"; do
  say "fuzz: $target, $seconds s"
  mkdir -p "fuzz/corpus/$target" "fuzz/seeds/$target"
  # Safe code throughout: an address sanitizer would find nothing and take half of the runs.
  cargo "+$toolchain" fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1
done
