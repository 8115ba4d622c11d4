"""Parts of a benchmark side by side."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from bench.harness.parallel import over, shares


def told(item: int) -> tuple[int, int, set[int], str | None]:
    return item, os.getpid(), os.sched_getaffinity(0), os.environ.get("OMP_NUM_THREADS")


def test_cores_are_dealt_out() -> None:
    assert shares([0, 1, 2, 3, 4], 2) == [{0, 2, 4}, {1, 3}]
    assert shares([4, 7], 3) == [{4}, {7}, {4}]


def test_one_process_is_this_one() -> None:
    assert [pid for _, pid, _, _ in over(told, [1, 2], 1)] == [os.getpid()] * 2


def test_answers_come_in_the_items_order_from_processes_on_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "63")
    cores = os.sched_getaffinity(0)
    found = over(told, [3, 1, 2], 2)
    assert [item for item, _, _, _ in found] == [3, 1, 2]
    assert os.getpid() not in {pid for _, pid, _, _ in found}
    wanted = [frozenset(share) for share in shares(sorted(cores), 2)]
    assert all(frozenset(share) in wanted for _, _, share, _ in found)
    assert {threads for _, _, _, threads in found} == {str(min(map(len, wanted)))}
    assert os.sched_getaffinity(0) == cores
    assert os.environ["OMP_NUM_THREADS"] == "63"


def lasting(folder: Path, item: int) -> None:
    (folder / str(item)).write_text(str(os.getpid()))
    time.sleep(300)


def test_processes_end_with_a_benchmark_that_is_killed(tmp_path: Path) -> None:
    """As with every end, its own by a signal too: else they would train on, beside what is measured next."""
    root = str(Path(__file__).parents[3])
    words = [sys.executable, "-m", "tests.unit.bench.test_parallel", str(tmp_path)]
    with subprocess.Popen(words, cwd=root, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}) as begun:
        deadline = time.monotonic() + 60
        while len(pids := [path.read_text() for path in tmp_path.iterdir()]) < 2 or not all(pids):
            assert begun.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        working = [psutil.Process(int(pid)) for pid in pids]
        begun.kill()
    gone, alive = psutil.wait_procs(working, timeout=30)
    for each in alive:
        each.kill()
    assert len(gone) == 2


if __name__ == "__main__":
    over(functools.partial(lasting, Path(sys.argv[1])), [1, 2], 2)
