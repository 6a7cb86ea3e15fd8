#!/usr/bin/env bash
# Runs h2spec, the HTTP/2 conformance suite, in strict mode against `diolkos run`, over TLS and in clear.
#   REQUIRE_RIG=1   a machine that has no h2spec and cannot build it is a failure, not a skip
. "$(dirname "$0")/lib.sh"
LOG=$(mktemp)
h2spec=$RIG_BIN/h2spec
why=
for tool in go openssl; do have $tool || why="no $tool"; done
[ -n "$why" ] || "$RIG" build h2spec >"$LOG" 2>&1 || why=$(grep . "$LOG" | tail -1)
if [ -n "$why" ]; then
  [ "${REQUIRE_RIG:-}" != 1 ] || die "REQUIRE_RIG=1, but h2spec cannot run: $why"
  say "SKIPPED: h2spec cannot run: $why"
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
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=h2spec \
  -addext subjectAltName=DNS:localhost -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
{
  cat <<'YAML'
apiVersion: diolkos.io/v1alpha1
kind: GatewayConfig
metadata: {name: default, namespace: diolkos-system}
spec:
  default: true
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
  - {name: https, port: 8443, protocol: HTTPS, defaultCertificate: {name: h2spec}, tls: {}}
---
apiVersion: diolkos.io/v1alpha1
kind: Route
metadata: {name: all, namespace: default}
spec:
  rules:
  - name: all
    matches:
    - path: {value: /}
    # The body is read before the answer: a case expects what is wrong with a body to be seen, not an early answer.
    plugins:
    - {name: whole, type: RequestValidation, requestValidation: {body: {maxSize: 1Mi}}}
    directResponse: {status: 200, contentType: text/plain, body: "an answer that is longer than some windows"}
---
apiVersion: v1
kind: Secret
metadata: {name: h2spec, namespace: diolkos-system}
type: kubernetes.io/tls
stringData:
YAML
  printf '  tls.crt: |\n'; sed 's/^/    /' "$work/cert.pem"
  printf '  tls.key: |\n'; sed 's/^/    /' "$work/key.pem"
} >"$work/config/all.yaml"
"$diolkos" run "$work/config" --http 127.0.0.1:0 --https 127.0.0.1:0 --admin 127.0.0.1:0 >"$work/access.log" 2>"$work/log" & gateway=$!
# port LISTENER: where it listens, once it does.
port() {
  local found
  for _ in $(seq 300); do
    kill -0 "$gateway" 2>/dev/null || break
    found=$(sed 's/\x1b\[[0-9;]*m//g' "$work/log" | grep 'event="listening"' | grep "/$1\"" | sed -n 's/.*address=127\.0\.0\.1:\([0-9]*\).*/\1/p' | head -1) || true
    [ -z "$found" ] || { say "$found"; return; }
    sleep 0.1
  done
  cat "$work/log" >&2
  die "the gateway did not open its listener $1"
}

passed=0
# suite CASES ARGUMENT...: all of at least so many cases pass.
suite() {
  local rc=0 least=$1 all good skipped failed; shift
  "$h2spec" --strict --timeout 5 --host 127.0.0.1 "$@" >"$work/report" 2>&1 || rc=$?
  kill -0 "$gateway" 2>/dev/null || die "the gateway ended: $(tail -5 "$work/log")"
  # It reports failures in its output; whether also by its status depends on the release.
  read -r all good skipped failed < <(sed -n 's/^\([0-9]*\) tests, \([0-9]*\) passed, \([0-9]*\) skipped, \([0-9]*\) failed$/\1 \2 \3 \4/p' "$work/report") ||
    { cat "$work/report"; die "h2spec reported nothing"; }
  if [ "$rc" != 0 ] || [ "$failed" != 0 ] || [ "$skipped" != 0 ] || [ "$all" -lt "$least" ]; then
    sed -n '/^Failures:/,$p' "$work/report"
    say "test result: FAILED. $good passed; $failed failed; $skipped ignored"
    die "h2spec: $all cases, $failed failed, $skipped skipped"
  fi
  passed=$((passed + good))
}

http=$(port http)
https=$(port https)
suite 146 --tls --insecure --port "$https"
# All but http2/3.5/2, which wants a connection that begins with something else than the preface closed without an answer:
# this port speaks HTTP/1.1 too, and answers it 400.
suite 145 --port "$http" generic hpack http2/3.5/1 http2/4 http2/5 http2/6 http2/7 http2/8
say "test result: ok. $passed passed; 0 failed; 0 ignored"
