#!/usr/bin/env bash
# Diolkos on the rig: the real one-node Kubernetes of e2e/rig, with images of this tree's debug build.
#   rig.sh up           build, start the rig unless it runs, install or replace Diolkos, wait until it serves
#   rig.sh cases [NAME] run the cases of e2e/cases against it
#   rig.sh crd-test     apply good and bad objects to its API server
#   rig.sh down         stop the rig, leaving nothing
#   rig.sh logs         the last lines of controller and data planes
#   PROFILE=release     release builds instead, for measurements
. "$(dirname "$0")/lib.sh"
REGISTRY=ghcr.io/diolkos
NAMESPACE=diolkos-system
PROFILE=${PROFILE:-debug}

kube() { "$RIG" kubectl "$@"; }

up() {
  cargo build --locked --workspace --bins $([ "$PROFILE" = debug ] || echo --release)
  "$RIG" build core
  "$RIG" status >/dev/null 2>&1 || "$RIG" up
  images
  # ReferenceGrant is a Gateway API kind; references across namespaces need it.
  "$RIG" crds standard >/dev/null
  "$TARGET/$PROFILE/diolkos" crds | kube apply --server-side --force-conflicts -f - >/dev/null
  "$TARGET/$PROFILE/diolkos" crds | kube wait --for=condition=Established --timeout=30s -f - >/dev/null
  local before; before=$(kube -n $NAMESPACE get deployments -o name 2>/dev/null)
  kube apply --server-side --force-conflicts -f deploy/manifests >/dev/null
  # Same tag, new content: Pods that ran before keep the old image until they are replaced.
  [ -z "$before" ] || kube -n $NAMESPACE rollout restart $before >/dev/null
  local d
  for d in diolkos-controller diolkos-dataplane; do
    kube -n $NAMESPACE rollout status deployment/$d --timeout=90s || { kube -n $NAMESPACE get pods,events; logs; die "$d did not become ready"; }
  done
}

images() {
  local out=$TARGET/rig-images/$PROFILE b; mkdir -p "$out"
  for b in diolkos-controller diolkos-dataplane echo-backend; do
    [ -x "$TARGET/$PROFILE/$b" ] || die "$TARGET/$PROFILE/$b is not built"
    if [ "$out/$b.tar" -nt "$TARGET/$PROFILE/$b" ]; then continue; fi
    # Debug information stays here: a container needs the code alone.
    strip --strip-debug -o "$out/$b" "$TARGET/$PROFILE/$b"
    "$RIG" image -o "$out/$b.tar" -n "$REGISTRY/$b:dev" --libs --certs --user 65532 "$out/$b"
  done
  "$RIG" load "$out/diolkos-controller.tar" "$out/diolkos-dataplane.tar" "$out/echo-backend.tar" >/dev/null 2>&1
}

# on_rig TEST ARG...: run an integration test inside the rig's network. It is built outside, where registries are.
on_rig() {
  local test=$1; shift
  cargo test --locked --workspace --test "$test" --no-run --quiet
  "$RIG" exec env DIOLKOS_RIG=1 RIG_BIN="$RIG_BIN" cargo test --locked --offline --workspace --test "$test" -- "$@"
}

logs() { local c; for c in controller data-plane; do kube -n $NAMESPACE logs -l app.kubernetes.io/component=$c --tail=40 --prefix; done; }

case ${1:-} in
  up) up;;
  cases) shift; on_rig cluster "$@";;
  crd-test) on_rig api_server;;
  down) "$RIG" down;;
  logs) logs;;
  images) images;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2;;
esac
