#!/usr/bin/env bash
# What GitOps tools make of our kinds, on a rig that `make rig-up` started (scenario T23): every object of a folder comes to
# health, bad ones are told apart from those that may still come, applying twice changes nothing, and nothing drifts.
. "$(dirname "$0")/lib.sh"
objects=e2e/gitops/objects
kube() { "$RIG" kubectl "$@"; }

"$RIG" status >/dev/null 2>&1 || die "no rig: make rig-up first"
program=$(e2e/peers/go.sh e2e/gitops)
work=$(mktemp -d)
cleanup() { kube delete namespace gitops --ignore-not-found --wait=false >/dev/null 2>&1 || true; rm -rf "$work"; }
trap cleanup EXIT
apply() { kube apply --server-side --field-manager=gitops -f "$1" >/dev/null; }
# What is written by whom; the status is the controller's to change.
specs() { kube -n gitops get routes.diolkos.io,upstreams.diolkos.io,plugins.diolkos.io,gatewayconfigs.diolkos.io -o json |
  jq -S '[.items[] | del(.status, .metadata.managedFields, .metadata.resourceVersion)]'; }
seen() { kube -n gitops get routes.diolkos.io,upstreams.diolkos.io,plugins.diolkos.io,gatewayconfigs.diolkos.io -o json | "$program" deploy/argocd/argocd-cm.yaml | sort; }

apply $objects/good.yaml
apply $objects/bad.yaml
cat >"$work/expected" <<'LIST'
GatewayConfig gitops/gitops Current Healthy
Plugin gitops/headers Current Healthy
Route gitops/early InProgress Degraded
Route gitops/shop Current Healthy
Route gitops/stalled Failed Degraded
Route gitops/switched-off Current Healthy
Upstream gitops/shop Current Healthy
LIST
for _ in $(seq 100); do
  seen >"$work/seen"
  cmp -s "$work/expected" "$work/seen" && break
  sleep 0.2
done
diff -u "$work/expected" "$work/seen" || die "statuses are not what GitOps tools wait for"

specs >"$work/before"
apply $objects/good.yaml
kube diff --server-side --field-manager=gitops -f $objects/good.yaml || die "what the cluster holds drifts from what was applied"
specs >"$work/after"
diff -u "$work/before" "$work/after" || die "applying twice is not applying once"

# A definition without its status yet is not taken for one that is done.
generation=$(jq -r '.items[0].status.observedGeneration' < <(
  kube create --dry-run=server -o json -f - <<'YAML' | jq '{items: [.]}'
apiVersion: diolkos.io/v1alpha1
kind: Upstream
metadata: {name: new, namespace: gitops}
spec: {endpoints: [{address: 192.0.2.2, port: 80}]}
YAML
))
[ "$generation" = -1 ] || die "a new object says observedGeneration $generation, not -1"
say "gitops: every object as Flux (kstatus) and Argo CD see it:"
cat "$work/seen"
