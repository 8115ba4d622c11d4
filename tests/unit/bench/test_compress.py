"""What bench-compress makes of its measurements: who dominates, what is chosen, what a loss is, what a failing rival leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bench import compress_rivals
from bench.compress_figures import Candidate, chosen_of, dominators, front, points_lost, undominated
from bench.harness.errors import BenchError
from bench.harness.rounds import Spread
from bench.peers.quantizers import feeds


def candidate(name: str, size: float, lost: float, speed: float, *, ours: bool = True, by: float = 0.1) -> Candidate:
    return Candidate(name, ours, size, Spread(lost, lost - by, lost + by), Spread(speed, speed - by, speed + by))


def test_who_is_as_good_in_all_and_better_in_one_dominates() -> None:
    mine = candidate("mine", 0.2, 0.5, 2.5)
    same, better = candidate("same", 0.2, 0.5, 2.5), candidate("better", 0.2, 0.4, 2.5)
    slower = candidate("slower", 0.1, 0.0, 2.4)
    assert dominators(mine, [same, better, slower]) == ["better"]
    assert [each.name for each in front([mine, same, better, slower])] == ["slower", "better"]


def test_not_dominated_is_shown_only_by_ranges() -> None:
    mine, rival = candidate("mine", 0.25, 0.5, 2.5), candidate("rival", 0.25, 0.6, 2.5, ours=False)
    noise = {"rival": (Spread(-0.1, -0.3, 0.1), Spread(1.0, 0.9, 1.1))}
    assert undominated(mine, [rival], noise) == Spread(1.0, 0.0, 1.0)
    clear = {"rival": (Spread(-0.2, -0.3, -0.1), Spread(1.0, 0.9, 1.1))}
    assert undominated(mine, [rival], clear) == Spread(1.0, 1.0, 1.0)
    smaller = candidate("mine", 0.2, 0.5, 2.5)
    assert undominated(smaller, [rival], noise) == Spread(1.0, 1.0, 1.0)
    beaten = candidate("mine", 0.3, 0.7, 2.4)
    assert undominated(beaten, [rival], noise) == Spread(0.0, 0.0, 0.0)


def test_the_choice_is_the_goals_among_those_that_are_near_enough() -> None:
    fp32, int8, int4 = candidate("fp32", 1.0, 0.0, 1.0), candidate("int8", 0.25, 0.2, 2.5), candidate("int4", 0.1, 3.0, 1.2)
    cosines = {"fp32": 1.0, "int8": 0.993, "int4": 0.97}
    assert chosen_of([fp32, int8, int4], cosines, 0.99) is int8
    assert chosen_of([fp32, int8, int4], cosines, 0.95) is int4
    assert chosen_of([fp32, int8, int4], cosines, 0.999) is fp32


def test_a_loss_is_in_points_and_paired() -> None:
    reference = np.ones(100)
    lost = points_lost(reference, np.where(np.arange(100) < 5, 0.0, 1.0))
    assert lost.median == pytest.approx(5.0)
    assert 0.0 < lost.low < 5.0 < lost.high
    assert points_lost(reference, reference).high < 5.0


def test_rows_are_given_without_their_padding(tmp_path: Path) -> None:
    ids = np.array([[5, 6, 7], [8, 0, 0]])
    np.savez(tmp_path / "rows.npz", lengths=np.array([3, 1]), input_ids=ids, attention_mask=(ids > 0).astype(np.int64))
    found = feeds(tmp_path / "rows.npz")
    assert [feed["input_ids"].tolist() for feed in found] == [[[5, 6, 7]], [[8]]]
    assert found[1]["attention_mask"].tolist() == [[1]]


def test_a_rival_that_fails_is_told_and_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint('no such operator', file=sys.stderr)\nsys.exit(1)\n", "utf-8")
    monkeypatch.setattr(compress_rivals, "SCRIPT", script)
    (tmp_path / "rows.npz").write_bytes(b"rows")
    made = list(compress_rivals.make_rivals("onnxruntime", tmp_path / "model.onnx", tmp_path / "rows.npz", tmp_path / "made"))
    assert [(each.name, each.error) for each in made] == [
        ("onnxruntime-dynamic", "no such operator"),
        ("onnxruntime-static", "no such operator"),
    ]
    kept = json.loads((made[0].folder / "made.json").read_text("utf-8"))
    assert kept["error"] == "no such operator"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it is tried again"))
    assert (
        list(compress_rivals.make_rivals("onnxruntime", tmp_path / "model.onnx", tmp_path / "rows.npz", tmp_path / "made"))
        == made
    )


def test_an_environment_that_cannot_be_installed_is_a_failed_rival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(tool: str) -> str:
        raise BenchError(f"{tool}: no network")

    monkeypatch.setattr(compress_rivals, "python_of", refuse)
    (tmp_path / "rows.npz").write_bytes(b"rows")
    made = list(compress_rivals.make_rivals("optimum", tmp_path / "model.onnx", tmp_path / "rows.npz", tmp_path / "made"))
    assert [each.error for each in made] == ["optimum: no network"] * 2


def test_a_tool_runs_alone_in_its_environment() -> None:
    script = compress_rivals.SCRIPT
    done = subprocess.run([sys.executable, "-I", str(script)], check=False, capture_output=True, text=True)
    assert "ModuleNotFoundError" not in done.stderr
