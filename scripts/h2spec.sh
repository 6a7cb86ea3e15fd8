#!/usr/bin/env bash
# Runs h2spec, the HTTP/2 conformance suite, in strict mode against `diolkos run` over cleartext HTTP/2.
#   REQUIRE_RIG=1   a machine that has no h2spec and cannot build it is a failure, not a skip
. "$(dirname "$0")/lib.sh"
LOG=$(mktemp)
h2spec=$RIG_BIN/h2spec
if ! have go || ! "$RIG" build h2spec >"$LOG" 2>&1; then
  why=$(have go && grep . "$LOG" | tail -1 || echo 'no Go')
  [ "${REQUIRE_RIG:-}" != 1 ] || die "REQUIRE_RIG=1, but h2spec cannot be built: $why"
  say "SKIPPED: h2spec cannot be built: $why"
  exit 0
fi
diolkos=$TARGET/debug/diolkos
[ -x "$diolkos" ] || cargo build --locked --workspace --bins

work=$(mktemp -d)
gateway=
cleanup() {
  trap - EXIT INT TERM
  [ -z "$gateway" ] || { kill "$gateway" 2>/dev/null && wait "$gateway"; } || true
  rm -rf "$work" "$LOG"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir "$work/config"
cat >"$work/config/all.yaml" <<'YAML'
apiVersion: diolkos.io/v1alpha1
kind: GatewayConfig
metadata: {name: default, namespace: diolkos-system}
spec:
  default: true
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
---
apiVersion: diolkos.io/v1alpha1
kind: Route
metadata: {name: all, namespace: default}
spec:
  rules:
  - name: all
    matches:
    - path: {value: /}
    directResponse: {status: 200, contentType: text/plain, body: "an answer that is longer than some windows"}
YAML
"$diolkos" run "$work/config" --http 127.0.0.1:0 --admin 127.0.0.1:0 >"$work/access.log" 2>"$work/log" & gateway=$!
address=
for _ in $(seq 300); do
  kill -0 "$gateway" 2>/dev/null || break
  address=$(sed 's/\x1b\[[0-9;]*m//g' "$work/log" | sed -n 's/.*listener open.*address=127\.0\.0\.1:\([0-9]*\).*/\1/p' | head -1)
  [ -z "$address" ] || break
  sleep 0.1
done
[ -n "$address" ] || { cat "$work/log" >&2; die "the gateway did not open its listener"; }

# All but http2/3.5/2, which wants a connection that begins with something else than the preface closed without an answer:
# this port speaks HTTP/1.1 too, and answers it 400.
rc=0
"$h2spec" --strict --timeout 5 --host 127.0.0.1 --port "$address" \
  generic hpack http2/3.5/1 http2/4 http2/5 http2/6 http2/7 http2/8 >"$work/report" 2>&1 || rc=$?
kill -0 "$gateway" 2>/dev/null || die "the gateway ended: $(tail -5 "$work/log")"
# It reports failures in its output; whether also by its status depends on the release.
read -r all passed skipped failed < <(sed -n 's/^\([0-9]*\) tests, \([0-9]*\) passed, \([0-9]*\) skipped, \([0-9]*\) failed$/\1 \2 \3 \4/p' "$work/report") ||
  { cat "$work/report"; die "h2spec reported nothing"; }
if [ "$rc" != 0 ] || [ "$failed" != 0 ] || [ "$skipped" != 0 ] || [ "$all" -lt 145 ]; then
  sed -n '/^Failures:/,$p' "$work/report"
  say "test result: FAILED. $passed passed; $failed failed; $skipped ignored"
  die "h2spec: $all cases, $failed failed"
fi
say "test result: ok. $passed passed; 0 failed; 0 ignored"
