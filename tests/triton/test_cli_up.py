"""The main job by the command line, with the real server: build, serve, ask, change, stop; and what may go wrong on the way."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.support.cli import LABELS, Project
from tests.support.cli_servers import MEASURED, STEPS, again, digests, gone, server, servers, up
from tests.support.tiny_model import IMAGE


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
    assert [answer["text"] for answer in many] == ["read the file", "", "write a list"], "an empty line is an empty text"
    scores = [result["score"] for result in many[0]["results"]]
    assert scores == sorted(scores, reverse=True)
    assert many[0]["provenance"]["digest"] == first["revision"]
    lines = [f"read the file {number % 7}" for number in range(70)]  # more than one request may hold
    long = json.loads(built.still("infer", "tiny", "-k", "1", "-o", "json", stdin="\n".join(lines)).stdout)
    assert [answer["text"] for answer in long] == lines
    assert all(len(answer["results"]) == 1 for answer in long)
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
    assert "1 client, 50 requests" in shown.stdout
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
    assert plan["gate/gate"]["why"] == "changed: serve.maxBatchSize"
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
    assert (ready["status"], ready["reason"]) == ("True", "Pinned")
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
