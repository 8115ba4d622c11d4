"""The main job by the command line, with the real server: build, serve, ask, change, stop; and what may go wrong on the way."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.cli import LABELS, Project, servers_below
from tests.support.tiny_model import IMAGE

from stillhouse.clients.store.local import LocalStore

STEPS = (
    "resolve/source", "resolve/gate-data", "resolve/index-data", "compress/int8", "gate/teacher-reference", "gate/gate",
    "gate/index",
)  # fmt: skip
MEASURED = ("gate/gate", "gate/index")


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Project:
    """A project that is built, with gate and index."""
    folder = tmp_path_factory.mktemp("template")
    project = Project(folder / "project", folder / "home", cache).create()
    project.still("build", str(project.file))
    return project


@pytest.fixture
def built(template: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of it: nothing that is done to one reaches another."""
    shutil.copytree(template.folder, tmp_path / "project")
    shutil.copytree(template.home, tmp_path / "home")
    with Project(tmp_path / "project", tmp_path / "home", template.cache).cleaned() as project:
        yield project


@pytest.fixture
def plain(tmp_path: Path, cache: Path) -> Iterator[Project]:
    """A project without gate and index, not built: three quick steps."""
    with Project(tmp_path / "project", tmp_path / "home", cache).create(gate=False, index=False).cleaned() as project:
        yield project


def up(project: Project, *options: str) -> str:
    """Serve and return; return what was said."""
    return project.still("up", "--detach", "--port", "0", *options, str(project.file)).stderr


def again(project: Project) -> str:
    """Serve on whatever port it has."""
    return project.still("up", "--detach", str(project.file)).stderr


def server(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = project.status()["server"]
    return found


def servers(project: Project) -> list[int]:
    """Return the servers' process ids, backends left out."""
    return [process.pid for process in servers_below(project.home) if process.name() == "tritonserver"]


def gone(project: Project) -> None:
    wait_until(lambda: not servers_below(project.home))


def digests(project: Project) -> dict[str, str]:
    return {step["id"]: step["artifact"] for step in project.status()["steps"]}


def test_a_whole_life(built: Project) -> None:
    said = up(built)
    assert "tiny: serving" in said
    assert "Stop it with: still down tiny" in said
    for step in STEPS:
        assert f"cached {step}" in said
    first = server(built)
    assert first["health"] == "ready"

    text = built.still("infer", "tiny", "-k", "3", "read the file").stdout
    assert len(text.splitlines()) == 3
    assert text.count("function_") == 3
    asked = built.still("infer", "tiny", "-o", "json", stdin="read the file\n\nwrite a list\n")
    many = json.loads(asked.stdout)
    assert [answer["text"] for answer in many] == ["read the file", "write a list"]
    scores = [result["score"] for result in many[0]["results"]]
    assert scores == sorted(scores, reverse=True)
    assert many[0]["provenance"]["digest"] == first["revision"]
    vector = built.data("infer", "tiny", "--vector", "read the file")[0]["embedding"]
    assert len(vector) == 16
    assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-4)

    status = built.status()
    assert [step["id"] for step in status["steps"]] == list(STEPS)
    assert all(step["artifact"] for step in status["steps"])
    assert {entry["type"]: entry["status"] for entry in status["conditions"]} == dict.fromkeys(
        ("Built", "GatePassed", "Available", "Ready"), "True"
    )
    tree = built.still("status", "tiny").stdout
    assert "none of 120 texts cut at 32 tokens" in tree
    assert next(line for line in tree.splitlines() if "gate/gate" in line).endswith("  int8")
    for words in ("serving", "ready at 127.0.0.1:", "✓ cosine", *STEPS, "Ready=True"):
        assert words in tree

    said = again(built)
    assert "already serving" in said
    assert "starting" not in said
    assert server(built)["pid"] == first["pid"]

    bench = built.data("bench", "tiny", "-n", "50", "-c", "4")
    assert [run["concurrency"] for run in bench["runs"]] == [1, 4]
    assert all(run["throughput"]["estimate"] > 0 < run["latencyP50"]["estimate"] for run in bench["runs"])
    shown = built.still("bench", "tiny", "-n", "50", "-c", "4")
    assert "4 clients, 50 requests" in shown.stdout
    assert "requests" not in shown.stderr.splitlines(), "a bar's label without its bar"
    assert len(built.still("logs", "tiny", "-n", "5").stdout.splitlines()) == 5
    compared = built.data("compare", "tiny", "tiny")
    assert {row["name"]: row["ratio"] for row in compared["rows"]}["size"] == 1

    busy = built.still("gc", "--forget", "tiny", code=2).stderr
    assert "being served" in busy
    assert "still down tiny" in busy
    assert built.still("down", "tiny").stdout == "tiny: stopped\n"
    gone(built)
    assert built.still("down", "tiny").stdout == "tiny: was not being served\n"
    assert "not being served" in built.still("infer", "tiny", "text", code=2).stderr
    assert "not serving" in built.still("status").stdout
    assert "Ready=False  ServerDown: no server answers" in built.still("status").stdout
    assert built.still("logs", "tiny").stdout


def test_a_classifier_answers_with_labels(tmp_path: Path, cache: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "home", cache, task="text-classification").create()
    with project.cleaned():
        assert "agreement" in up(project)
        answer = project.data("infer", "tiny", "read the file")[0]
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
        assert set(answer["probabilities"]) == set(LABELS)
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert answer["label"] in project.still("infer", "tiny", "read the file").stdout
        project.still("down", "tiny")


def test_a_model_of_images_is_asked_with_image_files(tmp_path: Path, cache: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "home", cache, task="image-classification").create(gate=False)
    shape = {"height": IMAGE.height, "width": IMAGE.width, "channels": IMAGE.channels}
    project.edit(source={"image": shape})
    with project.cleaned():
        said = up(project)
        assert "Ask it: still infer tiny IMAGE.png\n" in said
        assert "IMAGE.png" in project.still("infer", "tiny", code=2).stderr
        project.still("down", "tiny")


def test_changed_settings_run_the_gate_again_and_hand_the_port_over(built: Project) -> None:
    up(built)
    first, before = server(built), digests(built)
    built.edit(serve={"batching": {"maxBatchSize": 8}})
    plan = {step["id"]: step for step in built.data("plan", str(built.file))["steps"]}
    assert {name for name, step in plan.items() if step["state"] == "run"} == set(MEASURED)
    assert plan["gate/gate"]["why"] == "changed: serve"
    assert plan["gate/index"]["why"] == "gate is new"
    said = again(built)
    assert f"hands {first['address']} over" in said
    second, after = server(built), digests(built)
    assert second["address"] == first["address"]
    assert second["pid"] != first["pid"]
    assert second["health"] == "ready"
    assert servers(built) == [second["pid"]]
    assert {name for name in before if before[name] != after[name]} <= set(MEASURED)
    assert built.data("infer", "tiny", "read the file")[0]["provenance"]["digest"] == second["revision"]

    # The former revision can be compared with, held, and let go.
    old = first["revision"]
    assert built.status()["history"] == [old]
    assert built.data("compare", "tiny", old[:19])["b"]["digest"] == old
    built.edit(serve={"pin": old})
    assert "spec.serve.pin holds this revision" in again(built)
    assert server(built)["revision"] == old
    ready = {entry["type"]: entry for entry in built.status()["conditions"]}["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "Pinned")
    assert built.data("infer", "tiny", "read the file")[0]["results"], "the former revision still has its index"
    built.edit(serve={"pin": "sha256:" + "0" * 64})
    refused = built.still("up", "--detach", str(built.file), code=2).stderr
    assert "spec.serve.pin" in refused
    assert old in refused
    assert server(built)["revision"] == old


def test_changed_settings_count_without_a_gate_too(plain: Project) -> None:
    """Nothing is measured, so the revision is the same files: the settings alone make the difference."""
    up(plain)
    first = server(plain)
    plain.edit(serve={"batching": {"maxBatchSize": 4}, "responseCache": True})
    again(plain)
    second = server(plain)
    assert (second["address"], second["revision"]) == (first["address"], first["revision"])
    assert second["pid"] != first["pid"]
    again(plain)
    assert server(plain)["pid"] == second["pid"]
    assert plain.data("infer", "tiny", "read")[0]["embedding"] == plain.data("infer", "tiny", "read")[0]["embedding"]


def test_a_gate_that_is_not_met_leaves_the_former_version_serving(built: Project) -> None:
    up(built)
    first = server(built)
    built.edit(gate={"maxSize": "1Ki"})
    failed = built.still("up", "--detach", str(built.file), code=3).stderr
    assert "no candidate met every limit" in failed
    assert "int8: size" in failed
    assert f"goes on serving at {first['address']}" in failed
    status = built.status()
    assert status["server"]["pid"] == first["pid"]
    assert status["verdict"]["outcome"] == "failed"
    assert status["verdict"]["candidates"][0]["figures"]["cosine"]["estimate"] > 0.5, "figures of the rejected are kept"
    assert "last build: failed" in status["summary"]
    conditions = {entry["type"]: (entry["status"], entry["reason"]) for entry in status["conditions"]}
    assert conditions["GatePassed"] == ("False", "GateFailed")
    assert conditions["Available"] == ("True", "Serving")
    assert conditions["Ready"] == ("False", "GateFailed")
    shown = built.still("status").stdout
    assert "✗ size" in shown
    assert "text: none of 120 texts cut at 32 tokens" in shown, "what was cut is part of a verdict, whichever it is"

    # Of 100 requests nobody can say the 99th percentile's upper end: 0.99^100 = 37 % that all of them lie below it.
    gate = built.read()["spec"]["gate"]
    del gate["maxSize"]
    data = built.read()
    data["spec"]["gate"] = {**gate, "maxLatencyP99": "30s", "repeats": 1}
    built.write(data)
    unsure = built.still("build", str(built.file), code=4).stderr
    assert "the gate could not tell" in unsure
    assert "latencyP99" in unsure
    status = built.status()
    assert status["verdict"]["outcome"] == "inconclusive"
    assert status["server"]["pid"] == first["pid"]
    assert built.data("infer", "tiny", "read the file")[0]["provenance"]["digest"] == first["revision"]


def truncated(project: Project) -> str:
    model = project.folder / "teacher/model.onnx"
    model.write_bytes(model.read_bytes()[:-1000])
    return "model.onnx"


def no_tokenizer(project: Project) -> str:
    (project.folder / "teacher/tokenizer.json").unlink()
    return "tokenizer.json"


def other_columns(project: Project) -> str:
    (project.folder / "gate.jsonl").write_text('{"question": "read"}\n{"question": "write"}\n')
    return "question"


def no_rows(project: Project) -> str:
    (project.folder / "gate.jsonl").write_text("")
    return "gate.jsonl"


def no_data(project: Project) -> str:
    (project.folder / "gate.jsonl").unlink()
    return "spec.gate.data.uri"


@pytest.mark.parametrize("spoil", [truncated, no_tokenizer, other_columns, no_rows, no_data])
def test_a_bad_source_is_told_and_nothing_is_lost(built: Project, spoil: Callable[[Project], str]) -> None:
    """What was accepted before stays, and the old version would go on serving."""
    revision = built.status()["revision"]
    word = spoil(built)
    said = built.still("build", str(built.file), code=2).stderr
    assert "error: " in said
    assert word in said
    assert "allowed:" in said or "fix:" in said
    assert built.status()["revision"] == revision


def test_a_port_in_use_is_named_before_anything_is_built(plain: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = plain.still("up", "--port", str(port), str(plain.file), code=2).stderr
    assert "--port: the port is in use" in said
    assert f"127.0.0.1:{port}" in said
    assert str(psutil.Process().pid) in said
    assert "fix:" in said
    assert "resolve/source" not in said


def test_two_at_once_are_one_server(plain: Project) -> None:
    both = [plain.start("up", "--port", "0", str(plain.file)), plain.start("up", str(plain.file))]
    wait_until(lambda: all("serving" in each.text for each in both))
    # Which of the two came first is the scheduler's choice; exactly one waited.
    (other,) = [each for each in both if "is building or starting tiny; waiting for it" in each.text]
    owner = next(each for each in both if each is not other)
    if "--port" in other.process.args:  # type: ignore[operator]
        # It asked for a port of its own: the server moved there, and the first gave way.
        assert owner.end() == 0
        owner = other
    else:
        assert other.end() == 0
        assert "already serving" in other.text
        assert f"belongs to process {owner.process.pid}" in other.text
    assert len(servers(plain)) == 1
    owner.send(signal.SIGINT)
    assert owner.end() == 130
    gone(plain)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_foreground_server_ends_with_its_command(plain: Project, number: signal.Signals) -> None:
    started = plain.start("up", "--port", "0", str(plain.file))
    started.wait_for("Ctrl-C stops it")
    assert len(servers(plain)) == 1
    started.send(number)
    assert started.end() == 130
    assert "stopping tiny" in started.text
    assert "Traceback" not in started.text
    gone(plain)
    assert plain.status()["server"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_foreground_command_leaves_running_what_was_detached(plain: Project, number: signal.Signals) -> None:
    up(plain)
    first = server(plain)
    started = plain.start("up", str(plain.file))
    started.wait_for("started with --detach")
    assert "already serving" in started.text
    assert "Ctrl-C leaves it running, still down tiny stops it" in started.text
    assert "Ctrl-C stops it" not in started.text
    started.send(number)
    assert started.end() == 130
    assert "tiny goes on serving" in started.text
    assert "Traceback" not in started.text
    assert {key: server(plain)[key] for key in ("pid", "supervisor", "health")} == {
        "pid": first["pid"], "supervisor": 0, "health": "ready",
    }  # fmt: skip

    # Somebody else's `down` ends the waiting; and a version that this command put in place is its own.
    again_there = plain.start("up", str(plain.file))
    again_there.wait_for("started with --detach")
    plain.edit(serve={"batching": {"maxBatchSize": 4}})
    mine = plain.start("up", str(plain.file))
    mine.wait_for("Ctrl-C stops it")
    assert again_there.end() == 0
    assert "another process now serves" in again_there.text
    assert server(plain)["supervisor"] == mine.process.pid
    mine.send(number)
    assert mine.end() == 130
    gone(plain)


def test_a_command_that_was_killed_leaves_a_server_that_can_be_taken_on_or_stopped(plain: Project) -> None:
    started = plain.start("up", "--port", "0", str(plain.file))
    started.wait_for("Ctrl-C stops it")
    started.send(signal.SIGKILL)
    started.end()
    left = server(plain)
    assert left["health"] == "ready"
    assert f"(process {started.process.pid}) has gone; stop it with: still down tiny" in plain.still("status").stdout
    second = plain.start("up", str(plain.file))
    second.wait_for("Ctrl-C stops it")
    assert "already serving" in second.text
    assert server(plain)["pid"] == left["pid"]
    assert server(plain)["supervisor"] == second.process.pid
    second.send(signal.SIGKILL)
    second.end()
    assert plain.still("down", "tiny").stdout == "tiny: stopped\n"
    gone(plain)


@pytest.mark.parametrize("way_out", ["down", "up"])
def test_a_server_whose_command_was_killed_while_it_started_is_found(plain: Project, way_out: str) -> None:
    started = plain.start("up", "--port", "0", str(plain.file))
    started.wait_for("starting the server")
    wait_until(lambda: bool(servers(plain)))
    started.send(signal.SIGKILL)
    started.end()
    orphan = servers(plain)
    assert orphan
    if way_out == "up":
        up(plain)
        assert server(plain)["pid"] not in orphan
        assert servers(plain) == [server(plain)["pid"]]
    plain.still("down", "tiny")
    gone(plain)


def test_a_server_that_dies_ends_its_command_with_the_log(plain: Project) -> None:
    started = plain.start("up", "--port", "0", str(plain.file))
    started.wait_for("Ctrl-C stops it")
    psutil.Process(server(plain)["pid"]).kill()
    assert started.end() == 5
    assert "the server of tiny is not running any more" in started.text
    assert "SIGKILL" in started.text
    assert "still logs tiny" in started.text
    log = plain.still("logs", "tiny").stdout.splitlines()
    assert any(line.strip() and line.strip() in started.text for line in log[-20:])
    assert "not being served" in plain.still("infer", "tiny", "text", code=2).stderr
    up(plain)
    assert server(plain)["health"] == "ready"


def test_a_successor_ends_the_command_before_it(plain: Project) -> None:
    first = plain.start("up", "--port", "0", str(plain.file))
    first.wait_for("Ctrl-C stops it")
    plain.edit(serve={"batching": {"maxBatchSize": 4}})
    second = plain.start("up", str(plain.file))
    second.wait_for("Ctrl-C stops it")
    assert first.end() == 0
    assert "another process now serves" in first.text
    assert server(plain)["supervisor"] == second.process.pid
    second.send(signal.SIGINT)
    assert second.end() == 130
    gone(plain)


def test_a_hand_over_that_is_interrupted_leaves_the_former_server(plain: Project) -> None:
    up(plain)
    before = servers(plain)
    plain.edit(serve={"batching": {"maxBatchSize": 4}})
    second = plain.start("up", str(plain.file))
    second.wait_for("starting the server beside")
    second.send(signal.SIGINT)
    assert second.end() == 130
    assert servers(plain) == before
    assert plain.data("infer", "tiny", "--vector", "read")
    plain.still("down", "tiny")
    gone(plain)


def test_down_ends_a_foreground_command(plain: Project) -> None:
    started = plain.start("up", "--port", "0", str(plain.file))
    started.wait_for("Ctrl-C stops it")
    plain.still("down", "tiny")
    assert started.end() == 0
    assert "tiny: stopped" in started.text
    gone(plain)


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
    assert freed == would
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
