"""The decoders under a fuzzer that is guided by coverage (atheris), target after target, each in a process of its own.

Twelve targets share the inputs evenly; what each has found useful is kept in `--corpus` and begins the next run. A finding leaves
its input beside it, ends its target, and makes the command fail: it becomes a case of tests/unit/edge/test_decoders.py.

Example:
    python -m bench.fuzz --inputs 10000000       # the soak: some minutes of one core
    python -m bench.fuzz --inputs 240000 --target framing --target rest
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["main"]

LONGEST, SLOWEST_S, MEMORY_MB = 4096, 10, 2048
"""Bytes of an input; what takes longer, or more memory, is a finding too."""
_DONE = re.compile(r"^#(\d+)\t?\s*DONE\s+cov: (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What came of a target."""

    target: str
    inputs: int
    coverage: int
    corpus: int
    seconds: float
    finding: str


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000_000, help="inputs of all targets together")
    parser.add_argument("--target", action="append", help="a target; left out, all")
    parser.add_argument("--corpus", type=Path, default=Path(".cache/fuzz"), help="where inputs are kept")
    parser.add_argument("--json", type=Path, help="where the outcome is written")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args(arguments)
    if options.one:
        _fuzz(options.one, rest)
    from bench.fuzz_targets import TARGETS, seeds

    chosen = options.target or list(TARGETS)
    if unknown := sorted(set(chosen) - set(TARGETS)):
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    outcomes = [_run(name, seeds(name), options.corpus, -(-options.inputs // len(chosen))) for name in chosen]
    total = sum(each.inputs for each in outcomes)
    findings = [each for each in outcomes if each.finding]
    print(f"{total:,} inputs, {len(findings)} findings, {sum(each.seconds for each in outcomes):.0f} s")
    if options.json:
        options.json.write_text(json.dumps({"inputs": total, "targets": [asdict(each) for each in outcomes]}, indent=1) + "\n")
    return 1 if findings else 0


def _run(name: str, seeds: list[bytes], corpus: Path, inputs: int) -> Outcome:
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    begun = time.monotonic()
    words = [f"-runs={inputs}", f"-max_len={LONGEST}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MEMORY_MB}"]
    command = [sys.executable, "-m", "bench.fuzz", "--one", name, *words, f"-artifact_prefix={corpus}/{name}-", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    seconds = time.monotonic() - begun
    said = done.stdout + done.stderr
    found = _DONE.search(said)
    finding = "" if done.returncode == 0 and found else "\n".join(said.splitlines()[-40:])
    ran, coverage = (int(found[1]), int(found[2])) if found else (_reached(said), 0)
    outcome = Outcome(name, ran, coverage, len(list(folder.iterdir())), round(seconds, 1), finding)
    print(f"{name:9} {ran:>11,} inputs  {coverage:>5} places  {seconds:7.1f} s  {'FOUND' if finding else 'nothing'}", flush=True)
    if finding:
        print(finding, flush=True)
    return outcome


def _reached(said: str) -> int:
    """Return how many inputs a target had that ended early."""
    return max((int(each) for each in re.findall(r"^#(\d+)", said, re.MULTILINE)), default=0)


def _fuzz(name: str, words: list[str]) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["stillhouse.edge", "stillhouse.inference", "bench.fuzz_targets"]):
        from bench.fuzz_targets import TARGETS
    atheris.Setup([sys.argv[0], *words], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
