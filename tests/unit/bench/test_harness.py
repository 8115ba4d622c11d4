"""The harness's arithmetic: what is kept of noisy rounds, whose CPU time counts, which texts are sent in which order."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from bench.harness.inprocess import TURN, latency, own_texts, sizes
from bench.harness.load import Mode, Sample
from bench.harness.process import tree_cpu_seconds
from bench.harness.rounds import Spread, one_round, rounds, series
from bench.harness.texts import docstrings, histogram, order_digest, ordered
from bench.serving_figures import Comparison, throughput


def sample(throughput: float, foreign: float = 0.0) -> Sample:
    return Sample(throughput, 100, 0, {"p50": 1.0}, 2.0, 100, foreign, {})


class Scripted:
    """A side that gives prepared samples, and writes down when it was asked."""

    def __init__(self, name: str, samples: list[Sample], asked: list[str]) -> None:
        self.name = name
        self._samples = iter(samples)
        self._asked = asked

    def measure(self, mode: Mode, texts: Path, answers: int = 0) -> Sample:
        self._asked.append(self.name)
        return next(self._samples)


def test_rounds_interleave_the_sides(tmp_path: Path) -> None:
    asked: list[str] = []
    sides = [Scripted(name, [sample(float(i)) for i in range(3)], asked) for name in "ABC"]
    runs = rounds(sides, Mode(1, 0, clients=1), tmp_path, "peak", count=3)
    assert "".join(asked) == "ABCABCABC"
    assert series(runs, "B", "peak", throughput) == [0.0, 1.0, 2.0]


def test_a_noisy_round_is_repeated_until_quiet() -> None:
    samples = [sample(1, 0.4), sample(2, 0.06), sample(3, 0.05), sample(4, 0.0)]
    given = iter(samples)
    runs = one_round(Scripted("A", [], []), lambda: next(given), "peak", 0, repeats=3)
    assert [(run.attempt, run.kept, run.quiet) for run in runs] == [(0, False, False), (1, False, False), (2, True, True)]


def test_when_no_attempt_is_quiet_the_quietest_is_kept_and_marked() -> None:
    given = iter([sample(1, 0.4), sample(2, 0.1), sample(3, 0.2)])
    runs = one_round(Scripted("A", [], []), lambda: next(given), "peak", 0, repeats=2)
    assert [run.kept for run in runs] == [False, True, False]
    assert not any(run.quiet for run in runs)


def test_ratios_are_taken_round_by_round() -> None:
    asked: list[str] = []
    sides = [
        Scripted("ours", [sample(10), sample(30), sample(20)], asked),
        Scripted("theirs", [sample(5), sample(10), sample(5)], asked),
    ]
    runs = rounds(sides, Mode(1, 0, clients=1), Path(), "peak", count=3)
    assert Comparison("r", "ours", "theirs", "peak", throughput).spread(runs) == Spread(3.0, 2.0, 4.0)
    assert Comparison("d", "ours", "theirs", "peak", throughput, difference=True).spread(runs) == Spread(15.0, 5.0, 20.0)
    assert Comparison("n", "ours", "absent", "peak", throughput).spread(runs) is None


def test_a_sample_counts_cpu_per_right_answer_in_the_window() -> None:
    assert sample(1).cpu_ms == pytest.approx(20.0)
    assert sample(1).per_core == pytest.approx(50.0)


def test_cpu_time_of_children_that_have_exited_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint('done', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        assert tree_cpu_seconds(process.pid) >= 0.25  # the kernel counts in ticks of 10 ms
        process.communicate("")
    assert tree_cpu_seconds(process.pid) == 0.0


def test_docstrings_are_read_without_running_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        '"""Module."""\nraise SystemExit\nclass A:\n    """Class."""\n    async def f(self):\n        """Method."""\n'
    )
    assert sorted(docstrings(file)) == ["Class.", "Method.", "Module."]
    file.write_text("def broken(:")
    assert list(docstrings(file)) == []


def test_order_depends_on_the_texts_alone() -> None:
    texts = [f"a docstring with the number {i}" for i in range(50)]
    assert ordered(texts) == ordered([*reversed(texts), texts[3] + "\n"])
    assert ordered(texts) != texts
    assert ordered(["short", "lone surrogate \ud800 is left out"]) == []


def test_order_digest_separates_texts() -> None:
    digests = {order_digest(texts) for texts in (["ab", "c"], ["a", "bc"], ["c", "ab"])}
    assert len(digests) == 3
    # The load generator's digest of the same two texts (bench/loadgen, payload_digest).
    assert order_digest(["a", "bb"]) == "sha256:73f08b0e7c35992412759c5299d79c999075b1d80f351b2f9a7b44840fe1fd63"


def test_histogram_counts_every_length_once() -> None:
    counts = histogram([1, 8, 9, 16, 17, 256])
    assert counts == {"<=8": 2, "<=16": 2, "<=32": 1, "<=64": 0, "<=128": 0, "<=256": 1}


def test_in_process_batches_are_as_frequent_as_the_server_formed_them() -> None:
    drawn = list(itertools.islice(sizes(8, {1: 300, 7: 100}, seed=0), 4096))
    assert set(drawn) == {1, 7}
    assert 0.7 < drawn.count(1) / len(drawn) < 0.8
    assert list(itertools.islice(sizes(8, {}, seed=0), 3)) == [8, 8, 8]


def test_instances_together_answer_every_text_once_in_turns() -> None:
    texts = [str(number) for number in range(5 * TURN + 3)]
    first, second = own_texts(texts, 0, 2), own_texts(texts, 1, 2)
    assert sorted(first + second) == list(enumerate(texts))
    assert [place for place, _ in second[:2]] == [TURN, TURN + 1]
    assert own_texts(["only"], 1, 2) == [(0, "only")]


def test_percentiles_are_nearest_rank_as_in_the_load_generator() -> None:
    found = latency([float(i) for i in range(200, 0, -1)])
    assert found == {"mean": 100.5, "p50": 100.0, "p90": 180.0, "p99": 198.0, "max": 200.0}
