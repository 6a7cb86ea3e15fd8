#!/usr/bin/env bash
# The Helm charts of charts/.
#   charts.sh check   what needs no cluster: lint, wrong values are refused, and the charts hold what deploy/ holds
#   charts.sh rig     on a rig that `make rig-up` started: an installation is taken over by Helm, upgraded under load and
#                     removed, others are made for some namespaces and for Secrets of some; then the manifests are put back
. "$(dirname "$0")/lib.sh"
NAMESPACE=diolkos-system
values=e2e/charts/values
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

render() { "$RIG_BIN/helm" template diolkos charts/diolkos --namespace "$NAMESPACE" "$@"; }

# objects NAMESPACE FILE...: what the files hold, to be compared. Nothing is asked of a cluster.
objects() {
  local namespace=$1 file files=(); shift
  for file in "$@"; do files+=(-f "$file"); done
  "$RIG_BIN/kubectl" patch --local --type=merge --patch='{}' --output=json "${files[@]}" |
    jq -s --arg namespace "$namespace" -S -f e2e/charts/objects.jq
}

# same WHAT MANIFESTS VALUES...: the chart with these values, and what is installed without Helm.
same() {
  local what=$1 manifests=$2; shift 2
  render "$@" >"$work/chart.yaml"
  objects "$NAMESPACE" "$work/chart.yaml" >"$work/chart.json"
  diff -u --label deploy --label chart "$manifests" "$work/chart.json" || die "the chart differs from $what"
  say "the chart is $what: $(jq length "$manifests") objects"
}

# wrong VALUES...: they are refused, and what is wrong with them is named.
wrong() {
  local flags=$1 words=$2 said
  # Flags are words of their own; globs are none.
  if said=$(set -f; render $flags 2>&1 >/dev/null); then die "not refused: $flags"; fi
  [[ $said == *"$words"* ]] || die "$flags: '$words' is not in: $said"
}

# with_variable NAME VALUE FILE...: these objects, where the controller has one more variable.
with_variable() {
  local name=$1 value=$2; shift 2
  jq -s -S --arg name "$name" --arg value "$value" 'add | map(
      if .kind == "Deployment" and .metadata.name == "diolkos-controller"
      then .spec.template.spec.containers[0].env += [{$name, $value}] else . end)
    | sort_by(.kind, .metadata.namespace, .metadata.name)' "$@"
}

check() {
  "$RIG" build kube helm
  local chart values_of
  for chart in charts/*/; do "$RIG_BIN/helm" lint --strict --quiet "$chart"; done
  for values_of in "$values"/*.yaml; do "$RIG_BIN/helm" lint --strict --quiet charts/diolkos -f "$values_of"; done
  local flags words refused=0
  while IFS='|' read -r flags words; do
    case $flags in '#'*) continue;; esac
    wrong "$flags" "${words# }"
    refused=$((refused + 1))
  done <e2e/charts/refused
  say "$refused wrong values are refused, each by its name"

  objects "$NAMESPACE" deploy/manifests >"$work/manifests.json"
  same deploy/manifests "$work/manifests.json"

  # The webhook's Deployment is patched, as the README says.
  "$RIG_BIN/kubectl" patch --local -f deploy/manifests/20-controller.yaml --type=merge --patch='{}' --output=json |
    jq 'select(.kind == "Deployment")' >"$work/deployment.json"
  "$RIG_BIN/kubectl" patch --local -f "$work/deployment.json" --type=json --patch-file=deploy/admission/webhook-patch.yaml --output=json >"$work/patched.json"
  objects "$NAMESPACE" deploy/manifests deploy/admission/policies.yaml deploy/admission/webhook.yaml |
    jq -S --slurpfile patched "$work/patched.json" \
      'map(if .kind == "Deployment" and .metadata.name == "diolkos-controller" then $patched[0] else . end)' >"$work/manifests.json"
  same "deploy/manifests with deploy/admission" "$work/manifests.json" -f $values/admission.yaml

  # In the place of the ClusterRoles: the others, their bindings, and the variable.
  local namespace bindings=()
  for namespace in $NAMESPACE shop blog; do
    objects "$namespace" deploy/namespaced/binding.yaml >"$work/$namespace.binding"
    bindings+=("$work/$namespace.binding")
  done
  local manifests; manifests=$(ls deploy/manifests/*.yaml | grep -v cluster-role)
  objects "$NAMESPACE" $manifests deploy/namespaced/cluster-roles.yaml >"$work/others.json"
  with_variable DIOLKOS_WATCH_NAMESPACES shop,blog "$work/others.json" "${bindings[@]}" >"$work/manifests.json"
  same deploy/namespaced "$work/manifests.json" -f $values/namespaced.yaml

  # In the place of the ClusterRole for Secrets: a Role in each namespace, and the variable.
  local roles=()
  for namespace in $NAMESPACE shop blog; do
    objects "$namespace" deploy/secrets/role.yaml >"$work/$namespace.role"
    roles+=("$work/$namespace.role")
  done
  manifests=$(ls deploy/manifests/*.yaml | grep -v cluster-role-secrets)
  objects "$NAMESPACE" $manifests >"$work/others.json"
  with_variable DIOLKOS_SECRET_NAMESPACES $NAMESPACE,shop,blog "$work/others.json" "${roles[@]}" >"$work/manifests.json"
  same deploy/secrets "$work/manifests.json" -f $values/secrets.yaml
  jq -e '[.[] | select(.kind == "ClusterRole") | .rules[].resources[] | select(. == "secrets" or . == "*")] == []' "$work/chart.json" >/dev/null ||
    die "rbac.secrets=Namespaces leaves rights to Secrets in the whole cluster"

  "$RIG_BIN/helm" template diolkos-crds charts/diolkos-crds >"$work/chart.yaml"
  objects "" "$work/chart.yaml" | jq 'map(del(.metadata.labels, .metadata.annotations))' >"$work/chart.json"
  objects "" crds/yaml >"$work/manifests.json"
  diff -u "$work/manifests.json" "$work/chart.json" || die "diolkos-crds differs from crds/yaml"
  objects "" "$work/chart.yaml" | jq -e 'all(.metadata.annotations == {"helm.sh/resource-policy": "keep"})' >/dev/null ||
    die "a definition of diolkos-crds is not kept"
  say "diolkos-crds is crds/yaml, and is kept"

  # What the comparisons leave out.
  render -f $values/everything.yaml >"$work/chart.yaml"
  objects "$NAMESPACE" "$work/chart.yaml" | jq -r '.[] | select(.kind == "Deployment") | .metadata.name as $name | .spec |
    "\($name) replicas \(.replicas)", (.template.spec.containers[0] | "\($name) \(.image)", "\($name) \(.args[] | select(test("replicas|per-source")))")' |
    diff - <(cat <<LIST
diolkos-controller replicas 3
diolkos-controller ghcr.io/diolkos/diolkos-controller:dev@sha256:$(printf '0%.0s' {1..64})
diolkos-controller --dataplane-replicas=3
diolkos-dataplane replicas null
diolkos-dataplane ghcr.io/diolkos/diolkos-dataplane:dev
diolkos-dataplane --connections-per-source=0
LIST
    ) || die "values have another effect than they say"

  # The API server takes one of the two.
  render --set dataPlane.podDisruptionBudget.minAvailable=1 >"$work/chart.yaml"
  objects "" "$work/chart.yaml" | jq -e '
    all(.[] | select(.kind == "PodDisruptionBudget") | .spec; has("minAvailable") != has("maxUnavailable"))' >/dev/null ||
    die "a PodDisruptionBudget has two bounds"

  # Without data planes of Gateways the controller writes nothing that is theirs.
  render --set gateways.enabled=false,dataPlane.enabled=false >"$work/chart.yaml"
  objects "" "$work/chart.yaml" | jq -e '
    [.[] | select(.kind == "ClusterRole") | .rules[] | select(.verbs - ["get", "list", "watch"] != []) | .resources[]
      | select(endswith("/status") | not)] | sort == ["events", "gatewayclasses", "tokenreviews"]' >/dev/null ||
    die "gateways.enabled=false leaves rights to write: $(grep -n delete "$work/chart.yaml")"
  ! grep -n 'name: diolkos-test\|component: data-plane' "$work/chart.yaml" || die "dataPlane.enabled=false leaves data planes"
}

# -- on the rig
kube() { "$RIG" kubectl "$@"; }
helm() { "$RIG" exec "$RIG_BIN/helm" "$@"; }

# load ADDRESS: a hundred requests a second until `settle`, fifty on each connection, each answer's status in a line.
load=
load() {
  : >"$work/codes"
  rm -f "$work/stop"
  "$RIG" exec bash -c 'while [ ! -e "$1/stop" ]; do
    curl -s -o /dev/null -w "%{http_code}\n" --max-time 10 --rate 100/s -H "host: shop.localhost" "http://$2/hello?[1-50]"; done >>"$1/codes"' \
    load "$work" "$1" &
  load=$!
  passes 50
}
# passes N: so many more requests are answered.
passes() {
  local from; from=$(wc -l <"$work/codes")
  for _ in $(seq 300); do
    [ $(($(wc -l <"$work/codes") - from)) -lt "$1" ] || return 0
    sleep 0.1
  done
  die "no $1 requests in 30 s"
}
unload() {
  touch "$work/stop"
  [ -z "$load" ] || wait "$load" || true
  load=
}
# settle WHAT: every one of them was answered with 200.
settle() {
  passes 50
  unload
  local failed; failed=$(grep -vcx 200 "$work/codes") || true
  [ "$failed" = 0 ] || die "$1: $failed of $(wc -l <"$work/codes") requests failed: $(sort "$work/codes" | uniq -c | xargs)"
  say "$1: $(wc -l <"$work/codes") requests, each answered"
}

# serves NAMESPACE: the Route of the quickstart, at the address of the shared data planes, which is printed.
serves() {
  local address=
  for _ in $(seq 300); do
    address=$(kube -n "$1" get service diolkos-dataplane -o jsonpath='{.status.loadBalancer.ingress[0].ip}' 2>/dev/null) || true
    if [ -n "$address" ] && [ "$("$RIG" exec curl -s --max-time 2 -H "host: shop.localhost" "http://$address/hello")" = "hello from the gateway" ]; then
      printf '%s\n' "$address"
      return
    fi
    sleep 0.1
  done
  die "the Route of examples/quickstart is not served by $1 at '$address'"
}

# tested NAMESPACE: the chart's own test passes.
tested() {
  helm -n "$1" test diolkos --timeout=150s >"$work/test" 2>&1 && return
  cat "$work/test"
  kube -n "$1" get pods
  kube -n "$1" logs pod/diolkos-test || true
  die "helm test failed in $1"
}

# replaced: the data planes are those of the upgrade, and none of before drains any more.
replaced() {
  local old=
  for _ in $(seq 300); do
    old=$(kube -n $NAMESPACE get pods -l app.kubernetes.io/component=data-plane -o json |
      jq -r '.items[] | select(.metadata.annotations.charts != "2") | .metadata.name')
    [ -n "$old" ] || return 0
    sleep 0.2
  done
  die "the upgrade left data planes of before: $old"
}

# uninstall NAMESPACE: nothing is left of the release of that namespace but definitions, and no Pod.
uninstall() {
  local left=
  { helm -n "$1" get manifest diolkos; helm -n "$1" get hooks diolkos; } >"$work/release.yaml"
  helm -n "$1" uninstall diolkos --wait --timeout=120s >/dev/null
  for _ in $(seq 300); do
    left=$(kube get -f "$work/release.yaml" --ignore-not-found -o name
      kube -n "$1" get pods -l app.kubernetes.io/part-of=diolkos -o name
      kube -n "$1" get secrets -l owner=helm,name=diolkos -o name)
    [ -n "$left" ] || return 0
    sleep 0.2
  done
  die "left after helm uninstall: $left"
}

controller=system:serviceaccount:charts:diolkos-controller
# may VERB RESOURCE NAMESPACE: whether the controller of the release in the namespace charts may, as `yes` or `no`.
may() { kube auth can-i "$1" "$2" -n "$3" --as "$controller" 2>/dev/null | cut -d' ' -f1 || true; }

# states NAMESPACE NAME TYPE WANT: waits for a condition of a GatewayConfig, as `status reason`, and prints its message.
states() {
  local conditions found=
  for _ in $(seq 300); do
    conditions=$(kube -n "$1" get gatewayconfig "$2" -o json | jq -c --arg type "$3" '.status.conditions[]? | select(.type == $type)')
    found=$(jq -r '"\(.status) \(.reason)"' <<<"$conditions")
    if [ "$found" = "$4" ]; then jq -r .message <<<"$conditions"; return; fi
    sleep 0.1
  done
  die "$3 of GatewayConfig $1/$2 is '$found' and not '$4': $conditions"
}

# asked NAMESPACE ADDRESS FLAG...: what the site of a namespace answers over TLS to a client that trusts its certificate alone. The
# flags are curl's.
asked() {
  local site=$1.test
  "$RIG" exec curl -s --max-time 5 --fail --cacert "$work/$1.crt" --resolve "$site:443:$2" "${@:3}" "https://$site/"
}

# secrets_of_some_namespaces FLAG...: two namespaces are alike, and of one the controller may read the Secrets. The flags are Helm's.
secrets_of_some_namespaces() {
  local namespace address message said patiently=(--retry 20 --retry-all-errors --retry-delay 1)
  for namespace in charts-shop charts-blog; do
    kube create namespace $namespace >/dev/null
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$namespace \
      -addext "subjectAltName=DNS:$namespace.test" -keyout "$work/$namespace.key" -out "$work/$namespace.crt" 2>/dev/null
    kube -n $namespace create secret tls site --cert="$work/$namespace.crt" --key="$work/$namespace.key" >/dev/null
  done
  # The quickstart and its Service are of the default namespace.
  helm -n charts install diolkos charts/diolkos "$@" --set rbac.secrets=Namespaces --set rbac.secretNamespaces='{charts-shop}' \
    --set-json 'dataPlane.listeners=[{"name":"http","port":8080,"protocol":"HTTP"}]' >/dev/null
  address=$(serves charts)
  for namespace in charts-shop charts-blog; do
    kube apply --server-side -f - >/dev/null <<YAML
apiVersion: diolkos.io/v1alpha1
kind: GatewayConfig
metadata: {name: tls, namespace: $namespace}
spec:
  listeners:
  - {name: https, port: 8443, protocol: HTTPS, hostname: $namespace.test, tls: {certificateRefs: [{name: site}]}}
---
apiVersion: diolkos.io/v1alpha1
kind: GatewayConfig
metadata: {name: own, namespace: $namespace}
spec:
  listeners: [{name: http, port: 80, protocol: HTTP}]
  dataPlane: {replicas: 1, service: {type: ClusterIP}}
---
apiVersion: diolkos.io/v1alpha1
kind: Route
metadata: {name: site, namespace: $namespace}
spec:
  parentRefs: [{kind: GatewayConfig, name: tls}]
  rules: [{directResponse: {status: 200, body: "from $namespace"}}]
YAML
  done

  states charts-shop tls ResolvedRefs "True ResolvedRefs" >/dev/null
  said=$(asked charts-shop "$address" "${patiently[@]}") || die "charts-shop is not served with the certificate of its Secret: $said"
  [ "$said" = "from charts-shop" ] || die "charts-shop answers '$said'"
  states charts-shop own Programmed "True Programmed" >/dev/null
  message=$(states charts-blog tls ResolvedRefs "False RefNotReadable")
  [[ $message == *"may not read Secrets in namespace charts-blog"*secretNamespaces* ]] || die "said of charts-blog: $message"
  ! said=$(asked charts-blog "$address") || die "charts-blog is served: $said"
  message=$(states charts-blog own Programmed "False DataPlanesNotPermitted")
  [[ $message == *"may not write Secrets in namespace charts-blog"* ]] || die "said of the data planes of charts-blog: $message"

  # What the controller is not given it cannot take: the API server itself refuses.
  said=$(kube -n charts-blog get secret site --as "$controller" 2>&1) && die "the controller may read a Secret of charts-blog"
  [[ $said == *Forbidden* ]] || die "another refusal than 403: $said"
  [ "$(may get secrets charts-shop) $(may create secrets charts-shop) $(may get secrets charts-blog) $(may create secrets charts-blog) $(may list secrets kube-system)" = \
    "yes yes no no no" ] || die "the rights to Secrets are others than rbac.secretNamespaces says"
  [ "$(may list gatewayconfigs.diolkos.io charts-blog)" = yes ] || die "everything else is of the whole cluster"

  # Given later, it serves.
  helm -n charts upgrade diolkos charts/diolkos --reuse-values "$@" --set rbac.secretNamespaces='{charts-shop,charts-blog}' >/dev/null
  states charts-blog tls ResolvedRefs "True ResolvedRefs" >/dev/null
  said=$(asked charts-blog "$address" "${patiently[@]}") || die "charts-blog is not served after its namespace was added: $said"
  kube delete namespace charts-shop charts-blog --wait=false >/dev/null
  uninstall charts
  say "installed with Secrets of some namespaces alone"
}

put_back() {
  trap - EXIT
  unload
  kube delete -f examples/quickstart --ignore-not-found >/dev/null || true
  helm -n charts uninstall diolkos >/dev/null 2>&1 || true
  kube delete namespace charts charts-shop charts-blog --ignore-not-found --wait=false >/dev/null || true
  # What a release of an attempt that failed holds is the manifests' again.
  kube -n $NAMESPACE delete secrets -l owner=helm >/dev/null || true
  scripts/rig.sh up >"$work/up" 2>&1 || { cat "$work/up"; say "the manifests could not be put back: scripts/rig.sh up"; }
  rm -rf "$work"
}

rig() {
  "$RIG" status >/dev/null 2>&1 || die "no rig: make rig-up first"
  "$RIG" build helm
  trap put_back EXIT
  local wait=(--wait --timeout=120s) address

  # The API server's own validation, of every template.
  kube delete namespace charts charts-shop charts-blog --ignore-not-found >/dev/null
  kube create namespace charts >/dev/null
  # (But the test: a Pod needs its account to be there.)
  NAMESPACE=charts render -f $values/everything.yaml --set test.enabled=false | kube apply --server-side --dry-run=server --force-conflicts --field-manager=charts -f - >/dev/null
  say "the API server takes every template"

  # Who has the manifests goes over to Helm: names, labels and Pods are the same.
  kube apply --server-side --force-conflicts -f examples/quickstart >/dev/null
  address=$(serves $NAMESPACE)
  load "$address"
  helm -n $NAMESPACE install diolkos-crds charts/diolkos-crds --take-ownership --force-conflicts "${wait[@]}" >/dev/null
  helm -n $NAMESPACE install diolkos charts/diolkos --take-ownership --force-conflicts "${wait[@]}" >/dev/null
  settle "an installation of manifests taken over"
  tested $NAMESPACE
  load "$address"
  helm -n $NAMESPACE upgrade diolkos charts/diolkos "${wait[@]}" --set-string controller.podAnnotations.charts=2,dataPlane.podAnnotations.charts=2 >/dev/null
  replaced
  settle "an upgrade that replaces every Pod"
  uninstall $NAMESPACE
  helm -n $NAMESPACE uninstall diolkos-crds "${wait[@]}" >/dev/null
  kube get -f crds/yaml >/dev/null || die "definitions went with the release"
  kube -n default get routes.diolkos.io shop >/dev/null || die "Routes went with the release"
  say "uninstalled: nothing is left but definitions and their objects"

  # From nothing, in a namespace of another name, with rights in two namespaces; the default GatewayConfig is the chart's.
  kube delete -f examples/quickstart/gateway.yaml >/dev/null
  helm -n charts install diolkos charts/diolkos "${wait[@]}" --set watchNamespaces='{default}' \
    --set-json 'dataPlane.listeners=[{"name":"http","port":8080,"protocol":"HTTP"}]' >/dev/null
  serves charts >/dev/null
  kube -n charts get gatewayconfig default >/dev/null
  [ "$(may list routes.diolkos.io default) $(may get secrets default) $(may list routes.diolkos.io kube-system) $(may get secrets kube-system)" = \
    "yes yes no no" ] || die "the rights are others than in the namespaces of watchNamespaces"
  tested charts
  uninstall charts
  # What the controller wrote for itself goes with the namespace.
  diff <(kube -n charts get secrets,leases,configmaps -o name | sort) - <<'LIST' || die "other things are left in the namespace than the README says"
configmap/kube-root-ca.crt
lease.coordination.k8s.io/diolkos-leader
secret/diolkos-push
secret/diolkos-push-ca
LIST
  say "installed for some namespaces, in another one, and uninstalled"
  secrets_of_some_namespaces "${wait[@]}"
}

case ${1:-} in
  check) check;;
  rig) rig;;
  *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2;;
esac
