"""Commands that need no server: what they print, for people and for programs."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.support.cli import Project
from tests.support.stores import digest, put, receipt_of

from stillhouse.clients.store import objects
from stillhouse.clients.store.local import LocalStore
from stillhouse.entrypoints.local import building, state
from stillhouse.entrypoints.local.text import duration, size
from stillhouse.entrypoints.local.workspace import open_file
from stillhouse.errors import DataError
from stillhouse.passes.attempts import ATTEMPTS_FILE
from stillhouse.planning.estimate import TORCH_SECONDS
from stillhouse.planning.plan import Plan

from .conftest import Still

ROOT = Path(__file__).parents[3]


def test_an_empty_home(still: Still) -> None:
    result = still("status")
    assert (result.code, result.out) == (
        0,
        "No models yet. Start with: still up FILE (those of a cluster: still status --context CONTEXT)\n",
    )
    assert json.loads(still("status", "-o", "json").out) == []
    assert yaml.safe_load(still("status", "-o", "yaml").out) == []
    assert still("gc").code == 0
    assert json.loads(still("gc", "-o", "json").out)["bytes"] == 0


def test_a_model_that_is_not_here_may_be_in_a_cluster(still: Still) -> None:
    gone = still("status", "search")
    assert gone.code == 2
    assert "still status search --context CONTEXT -n NAMESPACE" in gone.err


def test_the_crds_are_the_committed_ones(still: Still) -> None:
    committed = [path.read_text() for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert still("crd").out == "---\n".join(committed)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create()


def plan(still: Still, project: Project) -> dict[str, Any]:
    result = still("plan", "-o", "json", str(project.file))
    assert result.code == 0, result.err
    data: dict[str, Any] = json.loads(result.out)
    return data


def test_a_new_plan(still: Still, project: Project) -> None:
    data = plan(still, project)
    ids = [step["id"] for step in data["steps"]]
    assert ids == [
        "resolve/source", "resolve/gate-data", "resolve/index-data", "compress/int8", "gate/teacher-reference", "gate/gate",
        "gate/index",
    ]  # fmt: skip
    assert {(step["state"], step["why"]) for step in data["steps"]} == {("run", "new")}
    assert data["total"]["steps"] == len(ids)
    assert data["total"]["seconds"] == pytest.approx(sum(step["seconds"] for step in data["steps"]))
    text = still("plan", str(project.file)).out
    for step in data["steps"]:
        assert step["id"] in text
    assert f"{len(ids)} to run" in text
    assert data["planHash"][:12] in text
    assert yaml.safe_load(still("plan", "-o", "yaml", str(project.file)).out) == data
    assert not (project.home / "models").exists(), "planning leaves nothing behind"


def test_a_plan_says_that_its_gate_can_never_tell(still: Still, project: Project) -> None:
    gate = project.read()["spec"]["gate"]
    project.edit(gate={**gate, "maxLatencyP99": "1s"})
    (note,) = plan(still, project)["notes"]
    assert note.startswith("spec.gate.load.requests: 50 requests in at most 4 runs")
    assert f"note: {note}" in still("plan", str(project.file)).out
    assert note in json.loads(still("lint", "-o", "json", str(project.file)).out)["warnings"]
    project.edit(gate={**gate, "maxLatencyP99": "1s", "load": {"requests": 92}})
    assert plan(still, project)["notes"] == []


@pytest.mark.parametrize("command", ["build", "up"])
def test_a_runtime_of_clusters_is_refused_before_anything_is_trained(still: Still, project: Project, command: str) -> None:
    file = project.file
    project.edit(serve={"runtime": "triton-nvidia"})
    planned = still("plan", str(file))
    assert planned.code == 0
    assert "spec.serve.runtime: triton-nvidia builds and serves in a cluster only" in planned.out
    refused = still(command, str(file))
    assert refused.code == 2
    assert "spec.serve.runtime" in refused.err
    assert f"fix:     still push {file.name} --to pvc://CLAIM, then kubectl apply -f {file.name}" in refused.err


def test_a_plan_says_that_there_is_little_to_learn_from(still: Still, tmp_path: Path) -> None:
    project = Project(tmp_path / "distilling", tmp_path / "store", tmp_path / "cache").create_distilling()
    (note,) = [note for note in plan(still, project)["notes"] if "spec.distill.data" in note]
    assert note.startswith("spec.distill.data: 400 rows are few")


def test_estimates_follow_the_sizes(still: Still, project: Project) -> None:
    """A model of 4 MB and 100 short rows is a matter of seconds and megabytes."""
    total = plan(still, project)["total"]
    model = (project.folder / "teacher/model.onnx").stat().st_size
    assert model < total["disk"] < 10 * model
    assert 1 < total["seconds"] < 120
    assert total["memory"] < 4 * 2**30


def test_the_start_of_torch_is_in_the_time_and_in_no_rate(still: Still, tmp_path: Path) -> None:
    project = Project(tmp_path / "distilling", tmp_path / "store", tmp_path / "cache").create_distilling()
    first = {step["id"]: step for step in plan(still, project)["steps"]}
    teacher, student = first["train/teacher-outputs"]["seconds"], first["train/student"]["seconds"]
    assert TORCH_SECONDS < teacher < TORCH_SECONDS + 2
    assert student < 2, "it finds torch there"
    store = LocalStore(project.home)
    steps = [{key: step[key] for key in ("id", "stage", "pass", "key")} for step in first.values()]
    store.write_state("tiny", {"name": "tiny", "file": str(project.file), "steps": steps})
    for step in open_file(project.file).plan.steps:  # receipts of a machine that is just as the estimates say, their objects gone
        seconds, started = first[step.id]["seconds"], f"2026-11-22T08:00:{len(store.receipt_keys()):02}Z"
        same: dict[str, Any] = {"key": step.key, "pass_name": step.pass_name, "version": step.version, "config": step.config}
        store.finish(receipt_of(step.id, digest(step.id), seconds=seconds, started=started, **same))
    second = {step["id"]: step for step in plan(still, project)["steps"]}
    assert second["train/teacher-outputs"]["seconds"] == pytest.approx(teacher)
    assert second["train/student"]["seconds"] == pytest.approx(student)
    data = project.read()
    data["spec"]["distill"]["stages"][0]["epochs"] *= 3
    project.write(data)
    third = {step["id"]: step for step in plan(still, project)["steps"]}
    assert third["train/soft"]["seconds"] == pytest.approx(3 * second["train/soft"]["seconds"]), "it took that long for a third"
    assert third["train/student"]["seconds"] == pytest.approx(student)


def test_planning_reads_no_contents(still: Still, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of gigabytes is not read to say what would run; a file that is cut short is seen all the same."""
    steps = [{key: step[key] for key in ("id", "stage", "pass", "key")} for step in plan(still, project)["steps"]]
    store = LocalStore(project.home)
    store.write_state("tiny", {"name": "tiny", "file": str(project.file), "steps": steps})
    for step in steps:
        artifact = put(store, {"model.onnx": step["id"].encode()})
        store.finish(receipt_of(step["id"], artifact, key=step["key"], started="2026-11-22T08:00:00Z"))
    with monkeypatch.context() as patched:
        patched.setattr(objects, "hash_file", lambda path: pytest.fail(f"it read {path.name}"))
        assert {(step["state"], step["why"]) for step in plan(still, project)["steps"]} == {("cached", "made 2026-11-22 08:00")}
        model = store.objects.path(artifact) / "model.onnx"
        model.chmod(0o644)
        model.write_bytes(model.read_bytes()[:-1])
        last = plan(still, project)["steps"][-1]
    assert (last["id"], last["state"], last["why"]) == ("gate/index", "run", "its result is damaged")


def test_an_interrupted_step_is_told_from_a_new_one(still: Still, project: Project) -> None:
    step = plan(still, project)["steps"][1]
    scratch = LocalStore(project.home).scratch(step["key"])
    (scratch / ATTEMPTS_FILE).write_text("{}")
    assert plan(still, project)["steps"][1]["why"] == "new", "an attempt that left nothing"
    (scratch / "part").write_text("half")
    found = plan(still, project)["steps"][1]
    assert (found["state"], found["why"]) == ("run", "was interrupted; goes on where it was")


def test_what_an_unknown_onnx_precision_says(still: Still, project: Project) -> None:
    project.edit(compress={"precision": "auto"})
    result = still("plan", str(project.file))
    assert result.code == 2
    assert "spec.compress.precision" in result.err
    assert "allowed: int8" in result.err


def test_status_reads_only_its_own_models_receipts(still: Still, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many receipts a store has: that is what keeps `status` quick."""
    steps = [{key: step[key] for key in ("id", "stage", "pass", "key")} for step in plan(still, project)["steps"]]
    store = LocalStore(project.home)
    store.write_state("tiny", {"name": "tiny", "file": str(project.file), "steps": steps})
    read: list[str] = []
    receipt = LocalStore.receipt
    monkeypatch.setattr(LocalStore, "receipt", lambda self, key: (read.append(key), receipt(self, key))[1])
    monkeypatch.setattr(LocalStore, "receipt_keys", lambda self: pytest.fail("it listed the whole store"))
    assert still("status").code == 0
    assert sorted(read) == sorted(step["key"] for step in steps)


def test_a_state_of_a_killed_build(still: Still, project: Project) -> None:
    """Nobody holds the model, so nobody builds it, whatever was written last."""
    steps = [{key: step[key] for key in ("id", "stage", "pass", "key")} for step in plan(still, project)["steps"]]
    entry = {"type": "Built", "status": "False", "reason": "Building", "message": "", "observedGeneration": 1}
    store = LocalStore(project.home)
    store.write_state("tiny", {"name": "tiny", "file": str(project.file), "steps": steps, "conditions": [entry]})
    built = json.loads(still("status", "tiny", "-o", "json").out)[0]["conditions"][0]
    assert (built["status"], built["reason"]) == ("False", "BuildFailed")
    assert "goes on from there" in built["message"]
    with store.model("tiny"):
        busy = json.loads(still("status", "-o", "json").out)[0]
    assert busy["conditions"][0]["reason"] == "Building"
    assert "builds or starts it" in busy["summary"]
    assert "not there" in still("status").out
    assert "steps" not in still("status", "--no-steps").out


def test_status_tells_how_good_student_and_teacher_are(still: Still, tmp_path: Path) -> None:
    def figure(estimate: float, low: float, high: float) -> dict[str, Any]:
        return {"estimate": estimate, "low": low, "high": high, "n": 150}

    share = {**figure(0.9744, 0.96, 1.01), "student": figure(0.76, 0.7, 0.82), "teacher": figure(0.78, 0.71, 0.84)}
    revision = {"digest": "sha256:" + "a" * 64, "precision": "int8", "size": 9, "time": "", "planHash": "", "truncated": None}
    told = []
    for figures in ({"accuracy / teacher": share}, {"accuracy / teacher": figure(0.9744, 0.96, 1.01)}):  # now, and of before
        LocalStore(tmp_path / "store").write_state("tiny", {"name": "tiny", "revision": {**revision, "figures": figures}})
        assert json.loads(still("status", "-o", "json").out)[0]["revision"]["figures"] == figures
        told += [line for line in still("status").out.splitlines() if "accuracy / teacher" in line]
    now, before = told
    assert "0.9744 [0.9600, 1.0100] (student 0.760 [0.700, 0.820], teacher 0.780 [0.710, 0.840])" in now
    assert before.endswith("0.9744 [0.9600, 1.0100]")


def test_status_tells_what_candidates_showed_that_were_not_taken(still: Still, tmp_path: Path) -> None:
    speed = {"latencyP50": 0.0102, "latencyP99": 0.0625, "throughput": 353.7}
    figures = {name: {"estimate": value, "low": value, "high": value, "n": 9} for name, value in speed.items()}
    common = {"digest": "", "size": 9, "outcome": "passed", "figures": figures, "repeats": 1, "truncated": None}
    limit = {"name": "latencyP99", "outcome": "passed", "text": "latencyP99 62.50 ms, at most 90.00 ms wanted"}
    candidates = [
        {**common, "precision": "int8", "checks": [limit], "lost": "as good within the noise, and larger: 353/s"},
        {**common, "precision": "int4", "checks": [], "lost": ""},
        {"precision": "fp32", "size": 9, "outcome": "failed", "checks": []},  # as of before figures were kept
    ]
    verdict = {"outcome": "passed", "time": "", "message": "", "candidates": candidates}
    LocalStore(tmp_path / "store").write_state("tiny", {"name": "tiny", "verdict": verdict})
    said = still("status").out
    assert said.count("latencyP50  10.20 ms [10.20, 10.20]") == 1, "of what was taken the revision tells"
    assert said.count("throughput  354/s [354, 354]") == 1
    assert said.count("latencyP99") == 1, "what has a limit is said with it"


def test_status_tells_the_newest_build_not_an_older_ones_error(still: Still, project: Project) -> None:
    store, work = LocalStore(project.home), open_file(project.file)
    state.planned(store, work.plan, str(project.file))
    state.refused(store, "tiny", "DataInvalid", "row 51 has no text", [])
    said = still("status").out
    assert "last build: error" in said
    assert "last build  error" in said, "rows that do not fit are none of the gate's doing"
    assert "gate  error" not in said
    state.planned(store, work.plan, str(project.file))
    killed = json.loads(still("status", "-o", "json").out)[0]
    assert "last build: interrupted" in killed["summary"]
    assert killed["verdict"] is None
    state.interrupted(store, "tiny")
    said = still("status").out
    assert "last build: interrupted" in said
    assert "row 51" not in said
    state.planned(store, work.plan, str(project.file))
    state.refused(store, "tiny", "GateFailed", "too large", [])
    said = still("status").out
    assert "last build: failed" in said
    assert "gate  failed" in said
    state.planned(store, work.plan, str(project.file))
    assert "last build: interrupted" in still("status").out


def test_forgetting_a_model_that_is_being_built(still: Still, project: Project) -> None:
    store = LocalStore(project.home)
    store.write_state("tiny", {"name": "tiny"})
    with store.model("tiny"):
        result = still("gc", "--forget", "tiny")
    assert result.code == 2
    assert "is being built" in result.err
    assert store.model_names() == ["tiny"]
    assert still("gc", "--dry-run", "--forget", "tiny").code == 0
    assert store.model_names() == ["tiny"], "a dry run forgets nothing"
    assert still("gc", "--forget", "tiny").code == 0
    assert store.model_names() == []


def test_what_a_build_has_just_finished_is_not_freed(still: Still, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended between the command's start and the moment in which `gc` has the store for itself."""
    store = LocalStore(tmp_path / "store")
    receipt = receipt_of("train/a", put(store))
    store.finish(receipt)
    alone = LocalStore.alone

    @contextlib.contextmanager
    def after_a_build(self: LocalStore) -> Iterator[None]:
        self.write_state("late", {"name": "late", "steps": [{"id": "train/a", "key": receipt.key}]})
        with alone(self):
            yield

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "alone", after_a_build)
        freed = json.loads(still("gc", "-o", "json").out)
    assert (freed["objects"], freed["receipts"]) == ([], [])
    assert store.done(receipt.key)
    assert json.loads(still("gc", "--forget", "late", "-o", "json").out)["objects"] == [receipt.artifact]


def test_a_build_that_waited_for_a_rebuild_is_of_its_token(
    still: Still, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was planned before the lock was its own. With the old token it would put the old revision back."""
    store = LocalStore(project.home)
    planned: list[tuple[str, set[str]]] = []

    class Stopped:
        def run(self, plan: Plan) -> None:
            planned.append((plan.plan_hash, {step.key for step in plan.steps}))
            raise DataError("far enough")

    @contextlib.contextmanager
    def after_a_rebuild(name: str, *_: object, **__: object) -> Iterator[None]:
        store.write_state(name, {**store.state(name), "rebuild": "token"})
        yield

    monkeypatch.setattr(building, "runner", lambda *_: Stopped())
    before = plan(still, project)
    assert still("build", str(project.file)).code == 2
    monkeypatch.setattr(LocalStore, "model", lambda self, name, *_, **__: after_a_rebuild(name))
    for line in (["build"], ["up", "--detach"]):
        store.write_state("tiny", {**store.state("tiny"), "rebuild": ""})
        assert still(*line, str(project.file)).code == 2
    after = plan(still, project)
    assert [each for each, _ in planned] == [before["planHash"], after["planHash"], after["planHash"]]
    assert before["planHash"] != after["planHash"] == store.state("tiny")["planHash"]
    assert planned[0][1] != planned[1][1]


def test_rebuild_looks_at_the_file_before_anything_counts_as_old(still: Still, project: Project) -> None:
    store = LocalStore(project.home)
    store.write_state("tiny", {"name": "tiny", "file": str(project.file)})
    data = project.read()
    data["metadata"]["name"] = "other"
    project.write(data)
    renamed = still("rebuild", "tiny")
    assert renamed.code == 2
    assert "describes another model now" in renamed.err
    project.file.unlink()
    assert still("rebuild", "tiny").code == 2
    assert "rebuild" not in store.state("tiny")


def test_nothing_to_ask(still: Still, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n\n")))
    result = still("infer", "tiny")
    assert result.code == 2
    assert "TEXTS: there is nothing to ask" in result.err
    assert 'fix:     still infer tiny "…"' in result.err


@given(st.floats(0, 1e9))
def test_durations_are_short_and_never_more_than_a_unit_off(seconds: float) -> None:
    text = duration(seconds)
    assert len(text) < 20
    assert "60 s" not in text
    assert "60 min" not in text


@given(st.integers(0, 2**50))
def test_sizes_have_at_most_four_figures_below_a_tebibyte(count: int) -> None:
    number, unit = size(count).split()
    assert float(number) < 1024 or unit == "GiB"
