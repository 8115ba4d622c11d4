#!/usr/bin/env bash
# Runs the tiers in order in one pytest, and says what took long. FULL=1 also runs what is marked slow.
set -euo pipefail
cd "$(dirname "$0")/.."
tiers=()
for tier in ${TIERS:-unit contract triton integration}; do
  [ -d "tests/$tier" ] && tiers+=("tests/$tier")
done
select=()
[ "${FULL:-}" = 1 ] || select=(-m "not slow")
case " ${TIERS:-} " in *" integration "*)
  # Ahead of time, so that a test's own time limit does not count the compiler's.
  .venv/bin/python -m tests.support.kube.binaries || [ "${CI:-}" != true ] ;;
esac
exec .venv/bin/python -m pytest -p no:cacheprovider "${tiers[@]}" "${select[@]}" --durations=15 --durations-min=2
