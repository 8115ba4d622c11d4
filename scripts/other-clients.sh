#!/usr/bin/env bash
# Ask a gateway with programs that are not ours: KServe's Python client over gRPC and REST, and grpcurl over reflection.
#   scripts/other-clients.sh
# Installs both into the cache (about a minute, once, some 450 MB); starts a gateway with a model of a few KB on loopback, ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
KSERVE=0.21.0 GRPCURL=v1.9.3
cache="${XDG_CACHE_HOME:-$HOME/.cache}/stillhouse/clients-$KSERVE-$GRPCURL"
mkdir -p "$cache"
if [ ! -x "$cache/kserve/bin/done" ]; then
  echo "installing KServe's client $KSERVE from PyPI, once"
  "$PWD/.venv/bin/python" -m venv --clear "$cache/kserve"
  "$cache/kserve/bin/python" -m pip install --quiet --disable-pip-version-check "kserve==$KSERVE"
  install -m 755 /dev/null "$cache/kserve/bin/done"
fi
if [ ! -x "$cache/grpcurl" ]; then
  echo "building grpcurl $GRPCURL from its Go module, once"
  GOBIN="$cache" GOWORK=off GOFLAGS='' go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL"
fi
exec "$PWD/.venv/bin/python" -m tests.support.other_clients "$cache/kserve/bin/python" "$cache/grpcurl"
