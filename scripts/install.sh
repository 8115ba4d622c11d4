#!/usr/bin/env bash
# Installs every pinned package into $1. On a terminal uv shows what it fetches; elsewhere a line says every four seconds
# that it goes on, since two hundred names tell nobody how far it is.
set -euo pipefail
venv=$1 lock=$2
uv=${UV:-$venv/bin/uv}
quiet=--quiet
echo "installing the pinned packages (half a minute to a few minutes, by the network; once)"
if [ -t 2 ]; then
  quiet=
else
  parent=$$ start=$SECONDS
  # It ends with this script, however that ends.
  (while sleep 4 >/dev/null 2>&1 && kill -0 "$parent" 2>/dev/null; do echo "  … still installing, $((SECONDS - start)) s"; done) &
  trap 'kill $! 2>/dev/null || true' EXIT
fi
"$uv" pip install $quiet --python "$venv/bin/python" --require-hashes --requirement "$lock"
"$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
