#!/usr/bin/env bash
# Instructions in user space per proxied keep-alive request (HTTP/1.1 GET, 1 KiB answer), for Diolkos, nginx and HAProxy,
# measured alike: callgrind over the whole process, once with N and once with 2N requests; the difference is what N requests
# cost, without start and stop. One worker thread each, pooled upstream connections, the same client and backend.
# No access logs, except in the lines that end in "-log" (to a file or pipe that nobody reads slowly); Diolkos counts its
# metrics in both. "bare" is Diolkos' engine alone (dataplane/examples/bare.rs): codec, edge gate, pool and relay. The ratio is to the line "nginx", which comes first therefore.
# N must leave 2N below the requests that Diolkos serves on one connection (9,000 to 10,000).
#   N=4000       requests      PEERS="nginx nginx-log haproxy bare diolkos diolkos-log"
. "$(dirname "$0")/../scripts/lib.sh"
N=${N:-4000}
PEERS=${PEERS:-nginx nginx-log haproxy bare diolkos diolkos-log}

need_build
missing=()
have valgrind || missing+=(valgrind)
for peer in $PEERS; do case $peer in
  nginx*) have nginx || missing+=(nginx-light);;
  haproxy) have haproxy || missing+=(haproxy);;
esac; done
[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
cargo build --release --locked --workspace --bins --example bare
bin=$TARGET/release

work=$(mktemp -d)
pids=()
cleanup() { trap - EXIT; [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"; }
trap cleanup EXIT

"$bin/echo-backend" --name bench --listen 127.0.0.1:0 >"$work/backend" & pids+=($!)
for _ in $(seq 100); do [ -s "$work/backend" ] && break; sleep 0.05; done
backend=$(sed -n 's/.*address=//p' "$work/backend")
[ -n "$backend" ] || die "the backend did not start"
port=$((20000 + RANDOM % 10000))
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done

mkdir "$work/manifests" "$work/manifests-log" "$work/nginx"
cat >"$work/manifests/bench.yaml" <<YAML
apiVersion: diolkos.io/v1alpha1
kind: Upstream
metadata: {name: bench}
spec:
  endpoints: [{address: ${backend%:*}, port: ${backend##*:}}]
---
apiVersion: diolkos.io/v1alpha1
kind: Route
metadata: {name: bench}
spec:
  hostnames: [bench.example.com]
  rules:
  - matches: [{path: {value: /bytes}}]
    backends: [{kind: Upstream, name: bench}]
YAML
cp "$work/manifests/bench.yaml" "$work/manifests-log/"
cat >"$work/manifests-log/gateway.yaml" <<YAML
apiVersion: diolkos.io/v1alpha1
kind: GatewayConfig
metadata: {name: default, namespace: diolkos-system}
spec:
  default: true
  listeners: [{name: http, port: 8080, protocol: HTTP}]
  accessLog: {format: JSON, to: Stdout}
YAML
nginx_conf() { cat <<CONF
daemon off; master_process off; worker_processes 1; pid $work/nginx/pid; error_log stderr warn;
events { worker_connections 512; }
http {
  access_log $1;
  client_body_temp_path $work/nginx/body; proxy_temp_path $work/nginx/proxy; fastcgi_temp_path $work/nginx/fastcgi;
  uwsgi_temp_path $work/nginx/uwsgi; scgi_temp_path $work/nginx/scgi;
  keepalive_requests 1000000;
  upstream bench { server $backend; keepalive 32; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:$port; server_name bench.example.com;
    location /bytes { proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host \$host; }
  }
}
CONF
}
nginx_conf off >"$work/nginx.conf"
nginx_conf "$work/nginx/access.log" >"$work/nginx-log.conf"
cat >"$work/haproxy.cfg" <<CONF
global
  nbthread 1
defaults
  mode http
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend bench
  bind 127.0.0.1:$port
  acl here path_beg /bytes
  use_backend bench if here { hdr(host) -i bench.example.com }
backend bench
  server one $backend pool-max-conn 32
CONF

command_of() {
  case $1 in
    diolkos) set -- "$bin/diolkos" run "$work/manifests" --http "127.0.0.1:$port" --admin 127.0.0.1:0 --threads 1;;
    diolkos-log) set -- "$bin/diolkos" run "$work/manifests-log" --http "127.0.0.1:$port" --admin 127.0.0.1:0 --threads 1;;
    nginx | nginx-log) set -- "$(command -v nginx)" -p "$work/nginx" -c "$work/$1.conf";;
    bare) set -- "$bin/examples/bare" "127.0.0.1:$port" "$backend";;
    haproxy) set -- "$(command -v haproxy)" -db -q -f "$work/haproxy.cfg";;
    *) die "no peer $1";;
  esac
  printf '%s\0' "$@"
}

# instructions PEER COUNT: instructions of a whole run with so many requests.
instructions() {
  local out=$work/$1.$2 pid cmd ready=
  mapfile -d '' cmd < <(command_of "$1")
  valgrind --tool=callgrind --callgrind-out-file="$out" --quiet "${cmd[@]}" >/dev/null 2>"$out.log" & pid=$!
  pids+=("$pid")
  # The first request that succeeds also opens the upstream connection; both runs send it alike.
  for _ in $(seq 600); do
    kill -0 "$pid" 2>/dev/null || break
    if "$bin/keepalive-client" "127.0.0.1:$port" bench.example.com /bytes/1024 1 2>/dev/null; then ready=1; break; fi
    sleep 0.2
  done
  [ -n "$ready" ] || { tail -20 "$out.log" >&2; die "$1 did not answer"; }
  "$bin/keepalive-client" "127.0.0.1:$port" bench.example.com /bytes/1024 "$2" || die "$1 failed a request"
  kill -TERM "$pid"; wait "$pid" || true
  awk '$1 == "totals:" || $1 == "summary:" {sum = $2} END {print sum}' "$out"
}

printf '%-12s %14s %8s   %s\n' peer instructions ratio version
nginx_cost=
for peer in $PEERS; do
  one=$(instructions "$peer" "$N"); two=$(instructions "$peer" $((2 * N)))
  [ -n "$one" ] && [ -n "$two" ] || die "callgrind left no totals for $peer"
  cost=$(((two - one) / N))
  [ "$peer" != nginx ] || nginx_cost=$cost
  case $peer in
    bare | diolkos*) version=$("$bin/diolkos" version | head -1);;
    nginx*) version=$(nginx -v 2>&1);;
    haproxy) version=$(haproxy -v | head -1 | cut -d' ' -f1-3);;
  esac
  printf '%-12s %14d %8s   %s\n' "$peer" "$cost" "$([ -z "$nginx_cost" ] || awk -v a="$cost" -v b="$nginx_cost" 'BEGIN {printf "%.2f", a / b}')" "$version"
done
