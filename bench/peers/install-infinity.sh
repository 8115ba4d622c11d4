#!/bin/sh
# Install peer (d), the maintained embedding server infinity-emb, into an environment of its own:
# its pins (transformers 4, typer) do not fit the project's. Prints the path of its command.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="${XDG_CACHE_HOME:-$HOME/.cache}/stillhouse/peers/infinity"
wanted=$(sha256sum "$here/infinity-requirements.txt" | cut -d' ' -f1)
if [ "$(cat "$venv/installed" 2>/dev/null || true)" != "$wanted" ]; then
    "${UV:-uv}" venv --quiet --clear --python "${PYTHON:-python3.11}" "$venv"
    "${UV:-uv}" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$here/infinity-requirements.txt"
    echo "$wanted" >"$venv/installed"
fi
echo "$venv/bin/infinity_emb"
