#!/usr/bin/env bash
# Writes src/generated/*.rs from the CustomResourceDefinitions of the Gateway API (standard channel) at the pinned version.
# Needs Go (the module is the source of the definitions), Python with PyYAML, and cargo (kopium is installed below target/
# when it is absent).
# Run it when VERSION moves; what it writes is checked in, so that a build needs none of this.
set -euo pipefail
cd "$(dirname "$0")"
VERSION=v1.6.3 KOPIUM=0.24.1
# Fields of the experimental channel that are read as well.
declare -A EXPERIMENTAL=([httproutes]=spec.rules.retry)   # standard in v1.7
tools=../../target/tools
PATH=$PWD/$tools/bin:$PATH
command -v kopium >/dev/null || cargo install --locked --root "$tools" "kopium@$KOPIUM"
crds=$(cd /tmp && GOFLAGS=-mod=mod go mod download -json "sigs.k8s.io/gateway-api@$VERSION" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/config/crd
mkdir -p src/generated
for kind in gatewayclasses gateways httproutes grpcroutes tlsroutes tcproutes udproutes backendtlspolicies listenersets; do   # further ones when something reads them
  fields=${EXPERIMENTAL[$kind]:-} file=gateway.networking.k8s.io_$kind.yaml
  python3 fields.py "$crds/standard/$file" "$crds/experimental/$file" $fields |
    kopium --filename - --api-version v1 --schema=disabled --docs --derive=Default --derive=PartialEq |
    python3 shared_types.py "$VERSION, standard channel${fields:+ and $fields of the experimental one}" >"src/generated/$kind.rs"
  rustfmt --edition 2024 "src/generated/$kind.rs"
done
