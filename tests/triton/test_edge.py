"""From one file to a gateway that asks a larger model where its own is not sure, with a real server beyond it."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cli import NAME, Project, write_rows
from tests.support.cli_servers import wait_until

from stillhouse.triton.birth import birth, runs

PORTS = ("--port", "0", "--rest-port", "0", "--metrics-port", "0")
QUESTIONS = [f"read the {word} value {word} list" for word in ("file", "path", "name", "warm", "list")]


def cascading(project: Project, **cascade: Any) -> Project:
    """Give a project a larger model of its own, and a cascade to it."""
    project.create()
    if project.task == "sentence-embedding":
        write_rows(project.folder / "corpus.jsonl", {"name": "name", "text": "text"}, 40, seed=2)
    write_rows(project.folder / "threshold.jsonl", {"text": "text"}, 500, seed=11)
    write_rows(project.folder / "test.jsonl", {"text": "text"}, 300, seed=12)
    data = project.read()
    larger = json.loads(json.dumps(data))
    larger["metadata"]["name"] = "larger"
    del larger["spec"]["gate"]
    larger["spec"].pop("index", None)
    (project.folder / "larger.yaml").write_text(json.dumps(larger))
    data["spec"]["edge"] = {
        "cascade": {
            "larger": {"model": "larger"},
            "data": {"uri": "file://./threshold.jsonl"},
            "test": {"uri": "file://./test.jsonl"},
            "escalationBudget": "60%",
            **cascade,
        },
    }
    project.write(data)
    return project


@pytest.fixture(scope="module", params=["text-classification", "sentence-embedding"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Project]:
    """Built, with the larger model served and a gateway before the small one."""
    root = tmp_path_factory.mktemp("edge")
    project = cascading(Project(root / "project", root / "home", cache, task=request.param))
    with project.cleaned():
        project.still("up", "--detach", "--port", "0", "larger.yaml")
        project.still("build", str(project.file))
        said = project.still("edge", str(project.file), "--detach", *PORTS).stderr
        assert "larger at 127.0.0.1:" in said
        assert "of requests like the threshold's" in said
        try:
            yield project
        finally:
            project.still("edge", "stop", NAME)


def status(project: Project) -> dict[str, Any]:
    (found,) = project.data("edge", "status")
    return dict(found)


def test_every_answer_says_where_it_is_from(site: Project) -> None:
    answers = site.data("ask", NAME, *QUESTIONS)

    assert [answer["text"] for answer in answers] == QUESTIONS
    for answer in answers:
        trace = answer["trace"]
        assert trace["leg"] == ("edge" if trace["confidence"] >= trace["threshold"] else "cloud")
        assert trace["variant"] == ("int8" if trace["leg"] == "edge" else "larger")
        assert trace["trace_edge_ms"] > 0
        assert ("trace_cloud_ms" in trace) == (trace["leg"] == "cloud")
        assert answer.get("results") or answer["probabilities"]
    text = site.still("ask", NAME, QUESTIONS[0]).stdout
    assert "confidence" in text
    assert " ms (" in text


def test_the_status_counts_what_was_asked(site: Project) -> None:
    before = status(site)["economics"]
    answers = site.data("ask", NAME, *QUESTIONS)
    after = status(site)["economics"]

    escalated = sum(answer["trace"]["leg"] == "cloud" for answer in answers)
    assert after["answers"] - before["answers"] == len(QUESTIONS)
    assert after["escalated"] - before["escalated"] == escalated
    assert after["cloudCallsAvoided"] - before["cloudCallsAvoided"] == len(QUESTIONS) - escalated
    assert 0 < before["edgeCpuSeconds"] < after["edgeCpuSeconds"]
    text = site.still("edge", "status", NAME).stdout
    assert "threshold" in text
    assert "breaker" in text


def test_what_is_measured_is_told_to_prometheus_and_probes(site: Project) -> None:
    address = status(site)["listen"]["metrics"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert f'stillhouse_cascade_rows_total{{leg="edge",model="{NAME}"}}' in text
    with urllib.request.urlopen(f"http://{address}/readyz", timeout=10) as answer:
        assert answer.status == 200


def test_a_second_gateway_is_refused_and_the_first_goes_on(site: Project) -> None:
    config = site.home / "edge" / NAME / "gateway.json"
    before = config.stat().st_mtime_ns, config.stat().st_ino
    refused = site.still("edge", str(site.file), *PORTS, code=2).stderr
    assert "runs already" in refused
    assert (config.stat().st_mtime_ns, config.stat().st_ino) == before, "nothing of the one that runs is written anew"
    assert f"still edge stop {NAME}" in refused
    assert status(site)["pid"]


def test_packed_and_carried_to_a_machine_that_has_nothing(site: Project, tmp_path: Path) -> None:
    site.still("pack", NAME, "-o", str(tmp_path / "m.still.tar"))
    other = Project(tmp_path / "elsewhere", tmp_path / "home", site.cache, task=site.task)
    other.folder.mkdir()
    larger = next(each for each in site.data("status") if each["name"] == "larger")["server"]["address"]
    said = other.still("edge", str(tmp_path / "m.still.tar"), "--cloud", f"grpc://{larger}", "--detach", *PORTS).stderr
    assert f"larger at {larger}" in said
    try:
        here, there = (project.data("ask", NAME, *QUESTIONS) for project in (site, other))
        assert [answer["trace"]["leg"] for answer in here] == [answer["trace"]["leg"] for answer in there]
        assert [answer.get("label", answer.get("results")) for answer in here] == [
            answer.get("label", answer.get("results")) for answer in there
        ]
    finally:
        other.still("edge", "stop", NAME)
    again = other.still("ask", NAME, "x", code=2).stderr
    assert "no gateway of this model runs here" in again

    damaged = bytearray((tmp_path / "m.still.tar").read_bytes())
    place = damaged.find(b"signature.json") + 1024
    damaged[place] ^= 1
    (tmp_path / "bad.still.tar").write_bytes(bytes(damaged))
    fresh = Project(tmp_path / "fresh", tmp_path / "other", site.cache)
    fresh.folder.mkdir()
    assert (
        "does not match its digest"
        in fresh.still("edge", str(tmp_path / "bad.still.tar"), "--cloud", "grpc://127.0.0.1:1", *PORTS, code=2).stderr
    )


def test_the_cloud_goes_away_and_comes_back(tmp_path: Path, cache: Path) -> None:
    """Policy answer: what the small model says is given, and says so; killed in the middle, the next process goes on."""
    project = cascading(Project(tmp_path / "project", tmp_path / "home", cache, task="text-classification"))
    with project.cleaned():
        project.still("build", str(project.file))
        refused = project.still("edge", str(project.file), *PORTS, code=2).stderr
        assert "where the larger model is" in refused
        assert "--cloud grpcs://HOST:PORT" in refused

        started = project.start("edge", str(project.file), "--cloud", "grpc://127.0.0.1:1", *PORTS)
        started.wait_for("listening on")
        answers = project.data("ask", NAME, *QUESTIONS)
        unsure = [each["trace"] for each in answers if each["trace"]["confidence"] < each["trace"]["threshold"]]
        assert unsure
        assert all(trace["away"] == "answer" and trace["leg"] == "edge" for trace in unsure)
        assert "did not answer" in project.still("ask", NAME, *QUESTIONS).stdout
        gateway = started.process.pid
        born = birth(gateway)
        os.kill(gateway, signal.SIGKILL)
        wait_until(lambda: not runs(gateway, born))
        assert project.data("edge", "status") == []

        project.still("up", "--detach", "--port", "0", "larger.yaml")
        started = project.start("edge", str(project.file), *PORTS)
        started.wait_for("listening on")
        legs = {answer["trace"]["leg"] for answer in project.data("ask", NAME, *QUESTIONS)}
        assert "cloud" in legs
        started.send(signal.SIGINT)
        assert started.end() == 0
        assert project.data("edge", "status") == []
