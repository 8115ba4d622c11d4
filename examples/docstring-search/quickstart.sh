#!/usr/bin/env bash
# The whole job on this machine: texts + teacher → student → ONNX → INT8 → gate → Triton → answers.
# Run by `make quickstart`; the same steps by hand are in the README.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=examples/docstring-search
model=$here/distilledmodel.yaml
start=$(date +%s)

step() { printf '\n== %s\n' "$1"; }

step "1. Texts: docstrings of the standard library and of the installed packages"
python $here/build_data.py --max-unlabelled 16000

step "2. The plan"
still plan $model

step "3. Build, gate, serve"
still up --detach $model

step "4. Which function of the standard library does this? The student's answers beside the teacher's"
python $here/ask.py

step "5. How fast is what runs now?"
still bench docstring-search --requests 2000

address=$(still status docstring-search -o json | python -c 'import json, sys; print(json.load(sys.stdin)[0]["server"]["address"])')
step "Done in $(($(date +%s) - start)) s. The server is still running at $address:"
cat <<'TEXT'
  still infer docstring-search "Return the current working directory."
  still status
  still down docstring-search        # stops it; what was built stays
(put .venv/bin on your PATH, or write .venv/bin/still)
TEXT
