"""kill -9 before every single change to the disk: the next run ends where an undisturbed one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stillhouse.clients.store.local import LocalStore

ROOT = Path(__file__).parents[3]
SAMPLE = 24
SEED = 20261122


def crash(what: str, folder: Path, count: int) -> dict[str, Any]:
    """Return the report of tests.support.crash."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.crash", what, str(folder), str(SEED), str(count)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def undisturbed(folder: Path) -> dict[str, str]:
    from tests.support.crash import build

    return build(folder)


def check_build(report: dict[str, Any], wanted: dict[str, str]) -> None:
    assert len(report["points"]) > 1
    for point in report["points"]:
        assert point["killed"], point
        # A receipt that a reader finds is never a promise that the store breaks.
        assert point["after"]["broken"] == [], point
        assert point["result"] == wanted, point
        end = point["end"]["state"]
        assert point["end"]["broken"] == []
        assert set(end["objects"]) == set(wanted.values()), point
        assert not any(end["objects"].values())
        assert end["tmp"] == [], point
        assert end["work"] == [], point


def test_a_build_killed_at_sampled_points_converges(tmp_path: Path) -> None:
    check_build(crash("build", tmp_path, SAMPLE), undisturbed(tmp_path / "other"))


@pytest.mark.slow
def test_a_build_killed_at_every_point_converges(tmp_path: Path) -> None:
    report = crash("build", tmp_path, 0)
    assert len(report["points"]) == report["total"] > 60
    check_build(report, undisturbed(tmp_path / "other"))


def check_mended(report: dict[str, Any], wanted: dict[str, str]) -> None:
    for point in report["points"]:
        assert point["killed"], point
        assert point["result"] == wanted, point
        assert point["end"]["broken"] == [], point
        assert set(point["end"]["state"]["objects"]) == set(wanted.values())


def test_mending_a_damaged_object_killed_at_sampled_points_converges(tmp_path: Path) -> None:
    check_mended(crash("mend", tmp_path, 12), undisturbed(tmp_path / "other"))


@pytest.mark.slow
def test_mending_a_damaged_object_killed_at_every_point_converges(tmp_path: Path) -> None:
    check_mended(crash("mend", tmp_path, 0), undisturbed(tmp_path / "other"))


def check_cleaned(report: dict[str, Any], folder: Path) -> None:
    from tests.support.passes import chain

    kept = chain().step("train/c").key
    wanted = undisturbed(folder / "other")["train/c"]
    assert LocalStore(folder / "other").receipt(kept) is not None
    for point in report["points"]:
        assert point["killed"], point
        # Whatever is left after the kill is whole, and what was to be kept is among it.
        assert point["after"]["broken"] == [], point
        assert kept in point["after"]["state"]["receipts"], point
        end = point["end"]["state"]
        assert list(end["receipts"]) == [kept], point
        assert list(end["objects"]) == [wanted], point
        assert end["tmp"] == [] == end["work"], point


def test_a_garbage_collection_killed_at_sampled_points_leaves_a_consistent_store(tmp_path: Path) -> None:
    check_cleaned(crash("clean", tmp_path, 12), tmp_path)


@pytest.mark.slow
def test_a_garbage_collection_killed_at_every_point_leaves_a_consistent_store(tmp_path: Path) -> None:
    check_cleaned(crash("clean", tmp_path, 0), tmp_path)
