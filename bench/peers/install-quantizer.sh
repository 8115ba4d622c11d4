#!/bin/sh
# Install a rival compressor, optimum or neural-compressor, into an environment of its own: their pins do not fit the project's.
# Prints the path of its Python.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="${XDG_CACHE_HOME:-$HOME/.cache}/stillhouse/peers/$1"
lock="$here/$1-requirements.txt"
wanted=$(sha256sum "$lock" | cut -d' ' -f1)
if [ "$(cat "$venv/installed" 2>/dev/null || true)" != "$wanted" ]; then
    "${UV:-uv}" venv --quiet --clear --python "${PYTHON:-python3.11}" "$venv"
    "${UV:-uv}" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$lock"
    echo "$wanted" >"$venv/installed"
fi
echo "$venv/bin/python"
