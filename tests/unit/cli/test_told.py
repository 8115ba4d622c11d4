"""What commands tell of others that are at work, of what has changed, and of what was never asked for."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cli import Project
from tests.support.stores import digest, put, receipt_of

from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local import asking, building
from stillhouse.entrypoints.local.workspace import open_file
from stillhouse.errors import DataError
from stillhouse.planning.plan import Plan

from .conftest import Still
from .test_commands import plan, project

__all__ = ["project"]


def test_a_dry_run_of_gc_works_while_something_is_built(still: Still, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    put(store)
    note = "note: a build or a server start is using the store"
    with store.using():
        assert still("gc").code == 2
        beside = still("gc", "--dry-run")
        assert json.loads(still("gc", "--dry-run", "-o", "json").out)["busy"] is True
    assert beside.code == 0
    assert beside.out.startswith("would free ")
    assert note in beside.out
    assert note not in still("gc", "--dry-run").out
    assert store.objects.digests()


@pytest.mark.parametrize("line", [["infer", "tiny", "text"], ["bench", "tiny"], ["compare", "tiny", "tiny"]])
def test_who_asks_for_a_model_that_is_being_built_is_told_who_builds_it(still: Still, tmp_path: Path, line: list[str]) -> None:
    store = LocalStore(tmp_path / "store")
    store.write_state("tiny", {"name": "tiny", "file": "tiny.yaml"})
    with store.model("tiny"):
        asked = still(*line)
    assert asked.code == 2
    assert f"fix:     process {os.getpid()} builds or starts it; still status tiny shows how far it is" in asked.err
    after = still(*line)
    assert after.code == 2
    assert "fix:     still up tiny.yaml" in after.err


def test_who_waits_for_a_build_is_told_for_whom(still: Still, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped:
        def run(self, plan: Plan) -> None:
            raise DataError("far enough")

    @contextlib.contextmanager
    def held(self: LocalStore, name: str, on_wait: Callable[[str], None]) -> Iterator[None]:
        on_wait("4711")
        yield

    monkeypatch.setattr(building, "runner", lambda *_: Stopped())
    monkeypatch.setattr(LocalStore, "model", held)
    said = still("up", "--detach", str(project.file)).err
    assert "another `still` (process 4711) is building or starting tiny; waiting for it" in said
    assert "how far it is: still status tiny" in said


def accepted(project: Project, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a state whose last plan has no receipts (its gate failed), beside the revision of the plan before."""
    made = [{"id": step["id"], "key": step["key"]} for step in steps]
    revision = {"digest": digest("r"), "index": None, "precision": "int8", "size": 1, "figures": {}, "truncated": {}}
    return {
        "name": "tiny",
        "file": str(project.file),
        "steps": [{**step, "key": digest(step["id"])[7:]} for step in steps],
        "revision": {**revision, "time": "", "planHash": "p", "steps": made},
    }


def test_a_plan_names_the_fields_that_have_changed(still: Still, project: Project) -> None:
    """Also where the last plan's gate failed, which leaves no receipt: it is the accepted revision that is compared with."""
    before = plan(still, project)["steps"]
    steps = [{key: step[key] for key in ("id", "stage", "pass", "key")} for step in before]
    store = LocalStore(project.home)
    store.write_state("tiny", {"name": "tiny", "file": str(project.file), "steps": steps})
    config = open_file(project.file).plan.step("gate/gate").config
    gate = next(step for step in steps if step["id"] == "gate/gate")
    store.finish(receipt_of("gate/gate", put(store), key=gate["key"], config=config))
    for step in steps:
        if step["id"] not in ("gate/gate", "gate/index"):
            store.finish(receipt_of(step["id"], put(store), key=step["key"]))

    def why() -> str:
        return next(str(step["why"]) for step in plan(still, project)["steps"] if step["id"] == "gate/gate")

    project.edit(serve={"batching": {"maxBatchSize": 4}, "threads": 1})
    assert why() == "changed: serve.maxBatchSize, serve.threads"
    store.write_state("tiny", accepted(project, steps))
    assert why() == "changed: serve.maxBatchSize, serve.threads"
    store.write_state("tiny", {**accepted(project, steps), "revision": None})
    assert why() == "changed since the last plan, which did not get here"


def test_status_tells_a_gate_that_was_passed_from_none(still: Still, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    condition = {"type": "GatePassed", "status": "True", "message": "", "observedGeneration": 1}
    verdict = {"outcome": "passed", "message": "", "candidates": [], "time": "2026-11-24T10:00:00Z"}

    def shown(reason: str) -> str:
        store.write_state("tiny", {"name": "tiny", "verdict": verdict, "conditions": [{**condition, "reason": reason}]})
        return next(line for line in still("status", "tiny").out.splitlines() if "gate  " in line)

    assert "no gate was asked for" in shown("NoGate")
    assert "passed" not in shown("NoGate")
    assert "passed" in shown("GatePassed")


def test_an_empty_line_is_an_empty_text(still: Still, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer a line; what follows the last line feed is no line."""
    asked: list[list[str]] = []

    def ask(name: str, texts: list[str], **_: object) -> list[dict[str, Any]]:
        asked.append(texts)
        return [{"text": text, "embedding": [float(len(text))]} for text in texts]

    monkeypatch.setattr(asking, "ask", ask)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\n\n \nfour\n")))
    printed = still("infer", "tiny").out
    assert asked == [["one", "", " ", "four"]]
    assert printed.splitlines()[2:4] == ['""', "  0.0000"]
    assert "empty line is an empty text" in " ".join(still("infer", "--help").out.split())
