#!/usr/bin/env bash
# Builds Diolkos, runs it on examples/quickstart with two small backends, shows what it does and keeps serving until Ctrl-C.
#   QUICKSTART_ONCE=1   stop after the requests; the exit status says whether every answer was right (it does in both modes)
. "$(dirname "$0")/lib.sh"

work=$(mktemp -d)
pids=()
cleanup() {
  trap - EXIT INT TERM
  [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
  [ ${#pids[@]} = 0 ] || wait "${pids[@]}" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

need_build
say "Building (the first time takes some minutes)."
# All of the workspace, as every other build: another selection would choose other features and compile the world twice.
cargo build --locked --workspace --bins
diolkos=$TARGET/debug/diolkos

# -- ports: those of the manifests, or free ones when something else has them
busy() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
pick() { # pick WANTED: it, or the next port above that is free and not picked yet
  local port=$1
  while busy "$port" || [[ " ${picked:-} " == *" $port "* ]]; do port=$((port + 1)); done
  picked="${picked:-} $port"
  printf -v "$2" %s "$port"
}
pick 8080 http; pick 9090 admin; pick 18081 blue; pick 18082 green
directory=examples/quickstart
if [ "$http $blue $green" != "8080 18081 18082" ]; then
  directory=$work/quickstart
  cp -r examples/quickstart "$directory"
  sed -i "s/port: 8080/port: $http/" "$directory/gateway.yaml"
  sed -i "s/port: 18081/port: $blue/; s/port: 18082/port: $green/" "$directory/upstreams.yaml"
  say "Ports 8080, 18081 or 18082 are in use: running a copy of the example on $http, $blue and $green."
fi

# -- start
"$TARGET/debug/echo-backend" --name blue --listen "127.0.0.1:$blue" >"$work/blue.log" 2>&1 & pids+=($!)
"$TARGET/debug/echo-backend" --name green --listen "127.0.0.1:$green" >"$work/green.log" 2>&1 & pids+=($!)
"$diolkos" run "$directory" --admin "127.0.0.1:$admin" >"$work/access.log" 2>"$work/diolkos.log" & gateway=$!; pids+=("$gateway")
ready=
for _ in $(seq 300); do
  kill -0 "$gateway" 2>/dev/null || break
  # Only after our own process says that it has the admin port: someone else may have taken it meanwhile.
  if grep -q "address=127.0.0.1:$admin" "$work/diolkos.log" && busy "$blue" && busy "$green" &&
    [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$admin/readyz")" = 200 ]; then ready=1; break; fi
  sleep 0.1
done
[ -n "$ready" ] || { cat "$work/diolkos.log" "$work/blue.log" "$work/green.log" >&2; die "the gateway did not become ready"; }

# -- requests
bold=; plain=
if [ -t 1 ]; then bold=$'\e[1m'; plain=$'\e[0m'; fi
wrong=0
# show EXPLANATION STATUS PART CURL-ARGUMENT...: send it, print the answer, check status and a part of head or body.
show() {
  local text=$1 status=$2 part=$3; shift 3
  printf '\n%s%s%s\n$ curl' "$bold" "$text" "$plain"
  printf ' %q' "$@"
  printf '\n'
  # The name resolves to this machine whatever the resolver thinks of .localhost.
  local answer; answer=$(curl -s -i --max-time 10 --resolve "shop.localhost:$http:127.0.0.1" "$@" | tr -d '\r') || true
  printf '%s\n' "$answer" | sed 's/^/  /'
  if [[ $answer != "HTTP/1.1 $status "* || $answer != *"$part"* ]]; then
    say "  WRONG: status $status with $part was expected"
    wrong=$((wrong + 1))
  fi
}
shop=http://shop.localhost:$http

show "A request is matched by host and path and goes to a backend. The prefix /api is cut off, x-from is set and x-secret removed on the way; the answer gets x-served-by." \
  200 '"path":"/items"' -H 'x-secret: 42' "$shop/api/items?page=2"
show "Any host reaches /green." 200 '"backend":"green"' "http://127.0.0.1:$http/green"

printf '\n%sWeights: of 20 requests about 18 go to blue and 2 to green.%s\n' "$bold" "$plain"
counts=$(for _ in $(seq 20); do
  curl -s --max-time 10 --resolve "shop.localhost:$http:127.0.0.1" "$shop/api/" | grep -o '"backend":"[a-z]*"' | cut -d'"' -f4; echo
done | sort | uniq -c | awk 'NF == 2')
printf '%s\n' "$counts"
read -r from_blue from_green < <(awk '$2 == "blue" {b = $1} $2 == "green" {g = $1} END {print b + 0, g + 0}' <<<"$counts")
if [ $((from_blue + from_green)) != 20 ] || [ "$from_blue" -lt 14 ] || [ "$from_green" -lt 1 ]; then
  say "  WRONG: 20 answers, most of them from blue, were expected"
  wrong=$((wrong + 1))
fi

show "A method that no rule takes: 405, with the list of those that work." 405 'method_not_allowed' -X DELETE "$shop/api/items"
show "A plugin asks for a header ..." 400 '{"error":"missing_required_header"}' "$shop/checked"
show "... and lets the request through when it is there." 200 '"backend":"blue"' -H 'X-Request-ID: 7' "$shop/checked"
show "A redirect." 301 "/api/items" "$shop/old/items"
show "An answer of the gateway's own." 200 'hello from the gateway' "$shop/hello"
show "A rule whose backend does not exist fails alone, and says so." 500 '{"error":"invalid_backend"}' "$shop/broken"
show "No rule at all." 404 '{"error":"route_not_found"}' "$shop/nothing"

printf '\n%sWhy? `explain` asks the matcher that serves traffic, without sending anything.%s\n' "$bold" "$plain"
say "$ diolkos explain $directory GET $shop/api/items"
if explained=$("$diolkos" explain "$directory" GET "$shop/api/items" 2>"$work/explain.log") && [[ $explained == *blue* && $explained == *default/shop* ]]; then
  printf '%s\n' "$explained" | sed 's/^/  /'
else
  printf '%s\n' "${explained:-}" | cat - "$work/explain.log" | sed 's/^/  /'
  say "  WRONG: the route and its backends were expected"
  wrong=$((wrong + 1))
fi

printf '\n'
[ $wrong = 0 ] || die "$wrong answers were wrong; the gateway's log: $(tail -20 "$work/diolkos.log")"
say "All answers were right."
[ "${QUICKSTART_ONCE:-}" != 1 ] || exit 0
say "Serving on $shop/ (admin port http://127.0.0.1:$admin/). Edit $directory/*.yaml and try again; Ctrl-C ends it."
trap 'exit 0' INT TERM
wait "$gateway" || die "the gateway ended: $(tail -20 "$work/diolkos.log")"
