#!/usr/bin/env bash
# Runs the tiers and says what took long. FULL=1 also runs what is marked slow.
#
# Two lanes at once where there are two cores (scripts/lanes.py). LANES=1: one after the other, in order.
set -euo pipefail
cd "$(dirname "$0")/.."
tiers=()
for tier in ${TIERS:-unit contract triton integration cluster}; do
  [ -d "tests/$tier" ] && tiers+=("tests/$tier")
done
select=()
[ "${FULL:-}" = 1 ] || select=(-m "not slow")
case " ${TIERS:-} " in *" integration "* | *" cluster "*)
  # Ahead of time, so that a test's own time limit does not count the compiler's.
  .venv/bin/python -m tests.support.kube.binaries || [ "${CI:-}" != true ] ;;
esac
# The load generator that the benchmarks and a test of the triton tier use. Go is there, new enough and has the modules, or it is
# said what is missing, and CI fails.
if reason=$(cd bench/loadgen && go list -deps -test ./... 2>&1 >/dev/null); then
  (cd bench/loadgen && go vet ./... && go test ./...)
else
  echo "bench/loadgen: its tests cannot run: ${reason##*$'\n'}; they need Go >= 1.25 and its modules" >&2
  [ "${CI:-}" != true ]
fi
exec .venv/bin/python scripts/lanes.py "${tiers[@]}" -- -p no:cacheprovider "${select[@]}" --durations=15 --durations-min=2
