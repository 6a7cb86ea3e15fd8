#!/usr/bin/env bash
# The conformance suite of the Gateway API, unmodified, against Diolkos on the rig.
#   conformance.sh            every profile and feature that the GatewayClass claims; writes the report
#   conformance.sh NAME       one test, such as HTTPRouteMatching; writes none
#   CHANNEL=experimental      with the definitions of that channel, where HTTPRoutes have retries; those of the standard
#                             one come back at the end. It has a report of its own
# It needs a rig that `make rig-up` started, and leaves it as it is.
. "$(dirname "$0")/lib.sh"
CLASS=gateway-conformance
PROFILES=${PROFILES:-GATEWAY-HTTP,GATEWAY-GRPC,GATEWAY-TLS,GATEWAY-TCP,GATEWAY-UDP}
CHANNEL=${CHANNEL:-standard}
REPORT=${REPORT:-e2e/conformance/$CHANNEL-v1.6.3-default-report.yaml}

"$RIG" status >/dev/null 2>&1 || die "no rig: make rig-up first"
"$RIG" build conformance
# The suite has some twenty Gateways at a time, more than the rig's one node holds by what they ask for.
kube() { "$RIG" kubectl "$@"; }
kube -n diolkos-system set env deployment/diolkos-controller DIOLKOS_DATAPLANE_CPU_REQUEST=5m >/dev/null
kube -n diolkos-system rollout status deployment/diolkos-controller --timeout=90s
# What an earlier run left goes in its own time.
kube wait --for=delete --timeout=360s namespace/gateway-conformance-{infra,app-backend,web-backend} >/dev/null 2>&1 || true
kube apply --server-side -f - <<YAML
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: $CLASS}
spec: {controllerName: diolkos.io/controller}
YAML
kube wait --for=condition=Accepted --timeout=30s "gatewayclass/$CLASS"

# The suite wants all definitions of one channel.
standard() {
  local others; others=$(kube get customresourcedefinitions -o name | grep '\.gateway\.networking\.x-k8s\.io$' || true)
  [ -z "$others" ] || kube delete $others
  "$RIG" crds standard
}
experimental() {
  trap 'standard >/dev/null' EXIT
  # The policy of the standard channel forbids the other one in its place; that it is gone shows in a moment. Every
  # application brings it back, so there is one.
  kube delete --ignore-not-found validatingadmissionpolicybinding/safe-upgrades.gateway.networking.k8s.io
  local left=60
  until kube annotate --dry-run=server --overwrite customresourcedefinition/grpcroutes.gateway.networking.k8s.io \
    gateway.networking.k8s.io/channel=experimental >/dev/null 2>&1; do
    [ $((left -= 1)) -gt 0 ] || die "the experimental definitions are refused"
    sleep 0.5
  done
  "$RIG" crds experimental
  # What is asked is what the class claims, which follows the definitions.
  kube wait --for='jsonpath={.status.supportedFeatures[?(@.name=="HTTPRouteRetry")].name}=HTTPRouteRetry' --timeout=60s "gatewayclass/$CLASS"
}
case $CHANNEL in
  standard) ;;
  experimental) experimental;;
  *) die "CHANNEL is standard or experimental";;
esac

# The first is one that the load balancer of the rig has to give, the second one that it has not.
args=(-gateway-class="$CLASS" -conformance-profiles="$PROFILES" -usable-address=10.99.200.1 -unusable-address=192.0.2.1)
if [ $# -gt 0 ]; then
  args+=(-run-test="$1")
else
  version=$("$TARGET/debug/diolkos" version | awk '{print $2; exit}')
  mkdir -p "$(dirname "$REPORT")"
  args+=(-report-output="$(realpath "$REPORT")" -organization=diolkos -project=diolkos
    -url=https://github.com/diolkos/diolkos -version="v${version#v}"
    -contact=https://github.com/diolkos/diolkos/issues)
fi
"$RIG" conformance "${args[@]}"
