"""Nothing already built is lost: builds that are ended at every step, damaged results, rebuild and gc."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from tests.support.cli import Project, servers_below
from tests.support.cli_servers import MEASURED, STEPS, again, digests, gone, server, up, wait_until

from stillhouse.clients.store.local import LocalStore


def interrupt_at_every_step(project: Project, number: signal.Signals) -> None:
    """Start the build again and again; end it at the start of each step in turn."""
    ids = [step["id"] for step in project.data("plan", str(project.file))["steps"]]
    for step in ids:
        started = project.start("build", str(project.file))
        wait_until(lambda: f"] {step} ..." in started.text or started.process.poll() is not None)  # noqa: B023 - used at once
        started.send(number)
        code = started.end()
        # The last step may have ended before the signal came.
        assert code in ({-number} if number == signal.SIGKILL else {130}) or (step == ids[-1] and code == 0), started.text
        assert "Traceback" not in started.text
        if number == signal.SIGINT and code == 130:
            assert "the same command goes on from there" in started.text
            gone(project)
    wait_until(lambda: not servers_below(project.home))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_ended_at_every_step_goes_on(template: Project, tmp_path: Path, number: signal.Signals) -> None:
    with Project(tmp_path / "project", tmp_path / "home", template.cache).cleaned() as project:
        shutil.copytree(template.folder, project.folder)
        interrupt_at_every_step(project, number)
        project.still("build", str(project.file))
        done, wanted = digests(project), digests(template)
        for step in STEPS:
            if step not in MEASURED:  # what is measured holds its figures
                assert done[step] == wanted[step], step
        assert all(done.values())
        assert built_without_leftovers(project)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_distillation_that_is_ended_at_every_step_goes_on(tmp_path: Path, cache: Path, number: signal.Signals) -> None:
    """The whole ladder of stages, with torch: the same weights come out, whether or not it was interrupted."""

    def project(name: str) -> Project:
        return Project(tmp_path / name, tmp_path / f"{name}-home", cache).create_distilling()

    with project("whole").cleaned() as whole, project("parts").cleaned() as parts:
        whole.still("build", str(whole.file))
        interrupt_at_every_step(parts, number)
        parts.still("build", str(parts.file))
        done, wanted = digests(parts), digests(whole)
        assert {"train/student", "train/soft", "compress/fp32", "compress/int8"} <= set(done)
        trained = [step for step in done if step.partition("/")[0] in ("resolve", "train")]
        assert {step: done[step] for step in trained} == {step: wanted[step] for step in trained}
        assert all(done.values())
        up(parts)
        assert parts.data("infer", "tiny", "read the file")[0]["embedding"]
        assert built_without_leftovers(parts)
        parts.still("down", "tiny")


def built_without_leftovers(project: Project) -> bool:
    """Nothing is left of interrupted steps once `gc` has run."""
    project.still("gc")
    store = LocalStore(project.home)
    assert not list(store.tmp.iterdir())
    assert not list((store.root / "work").iterdir())
    assert all(not store.objects.check(digest, full=True) for digest in store.objects.digests())
    return True


def test_a_damaged_object_is_found_and_built_again(built: Project) -> None:
    before = digests(built)
    model = LocalStore(built.home).objects.path(before["gate/gate"]) / "model.onnx"
    raw = bytearray(model.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    model.chmod(0o644)
    model.write_bytes(raw)
    assert built.still("doctor").returncode == 0, "names and sizes are right"
    named = built.still("doctor", "--store", code=5).stdout
    file = LocalStore(built.home).state("tiny")["file"]
    assert f"{before['gate/gate']}: model.onnx does not match its digest\n    fix: still build {file}\n" in named
    said = built.still("build", str(built.file)).stderr
    assert "gate/gate: the stored result is damaged (model.onnx does not match its digest); it is built again" in said
    assert digests(built)["compress/int8"] == before["compress/int8"]
    assert not LocalStore(built.home).objects.check(digests(built)["gate/gate"], full=True)
    assert "every content matches its digest" in built.still("doctor", "--store").stdout

    index = LocalStore(built.home).objects.path(digests(built)["gate/index"]) / "embeddings.npy"
    up(built)
    index.chmod(0o644)
    index.write_bytes(index.read_bytes()[:-1])
    damaged = built.still("infer", "tiny", "read the file", code=5).stderr
    assert "the index is damaged" in damaged
    assert f"fix:     still up {built.file}" in damaged
    assert "its result is damaged" in built.still("plan", str(built.file)).stdout
    again(built)
    assert built.data("infer", "tiny", "read the file")[0]["results"]


def test_rebuild_and_gc(built: Project) -> None:
    up(built)
    first = server(built)
    said = built.still("rebuild", "tiny")
    assert "compress/int8 ..." in said.stderr
    assert "cached resolve/source" in said.stderr
    assert "serve it with: still up" in said.stdout
    status = built.status()
    assert status["server"]["pid"] == first["pid"]
    assert status["history"] == [first["revision"]]
    found = {entry["type"]: entry for entry in status["conditions"]}
    assert (found["Available"]["status"], found["Available"]["reason"]) == ("True", "Serving")
    assert (found["Ready"]["status"], found["Ready"]["reason"]) == ("False", "OlderRevisionServes")
    assert found["Ready"]["message"].endswith(f"; run: still up {built.file}")
    assert f"Ready=False  OlderRevisionServes: {first['revision'][7:19]} serves" in built.still("status").stdout
    again(built)
    assert server(built)["revision"] == status["revision"]["digest"]
    later = built.status()
    assert {entry["type"]: entry["status"] for entry in later["conditions"]}["Ready"] == "True"
    assert later["verdict"]["time"] == status["verdict"]["time"], "nothing was measured anew"
    plan = built.data("plan", str(built.file))
    assert plan["total"]["steps"] == 0
    assert "nothing to run" in built.still("plan", str(built.file)).stdout

    for size in (16, 17, 18, 19):  # a history of three is kept; with this, five revisions have been there
        built.edit(serve={"batching": {"maxBatchSize": size}})
        built.still("build", str(built.file))
    before = set(LocalStore(built.home).objects.digests())
    would = built.data("gc", "--dry-run")
    assert first["revision"] in would["objects"]
    assert set(LocalStore(built.home).objects.digests()) == before
    freed = built.data("gc")
    assert {**freed, "saved": 0} == would, "what compressing saves is known once it is done"
    assert server(built)["revision"] in LocalStore(built.home).objects.digests(), "what serves stays, however old"
    assert built.data("infer", "tiny", "read the file")
    assert built.data("plan", str(built.file))["total"]["steps"] == 0

    built.still("down", "tiny")
    everything = built.data("gc", "--dry-run", "--forget", "tiny")
    assert len(everything["objects"]) == len(LocalStore(built.home).objects.digests()) > 0
    assert built.data("gc", "--forget", "tiny") == everything
    assert LocalStore(built.home).objects.digests() == []
    assert not (built.home / "run/tiny").exists()
    assert built.still("status").stdout.startswith("No models yet")


@pytest.mark.parametrize("line", [["build"], ["up", "--detach", "--port", "0"]])
def test_what_waits_for_a_rebuild_does_not_undo_it(plain: Project, line: list[str]) -> None:
    """It read the file before the rebuild had its token, and plans with it all the same."""
    plain.still("build", str(plain.file))
    store = LocalStore(plain.home)
    before = store.state("tiny")["planHash"]
    with store.model("tiny"):
        waiting = plain.start(*line, str(plain.file))
        waiting.wait_for("waiting for it")
        store.write_state("tiny", {**store.state("tiny"), "rebuild": "another"})  # as `rebuild` does, holding the model
    assert waiting.end() == 0, waiting.text
    wanted = plain.data("plan", str(plain.file))
    assert wanted["total"]["steps"] == 0, "what the rebuild asked for is built"
    assert wanted["planHash"] == store.state("tiny")["revision"]["planHash"] != before
