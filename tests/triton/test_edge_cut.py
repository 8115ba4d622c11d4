"""A model in two halves from one file: the lower one in the gateway, the upper one beside the whole model in a real Triton."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.cli import NAME, Project

from stillhouse.clients.triton import TritonClient

PORTS = ("--port", "0", "--rest-port", "0", "--metrics-port", "0")
TEXTS = ["read the file", "a", "return the list of path name value", "open the file and write the warm value of the list"]


MOST = 5e-3
"""Of fp16: 2^-11 of the activations, whose mean is multiplied by a matrix of ordinary numbers."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Project]:
    """Built and served, with a gateway that has the lower half."""
    root = tmp_path_factory.mktemp("cut")
    project = Project(root / "project", root / "home", cache, task="text-classification").create(index=False)
    project.edit(edge={"cut": {"layer": "rows", "encoding": "fp16"}})
    with project.cleaned():
        built = project.still("build", str(project.file))
        assert "what travels: CUT INT64 [n, 1], rows" in built.stderr
        assert "bytes a row" in built.stderr
        project.still("up", "--detach", "--port", "0", str(project.file))
        said = project.still("edge", str(project.file), "--detach", *PORTS).stderr
        assert f"activations go to {NAME}_upper at 127.0.0.1:" in said
        try:
            yield project
        finally:
            project.still("edge", "stop", NAME)


def address(project: Project) -> str:
    return str(project.status()["server"]["address"])


def infer(project: Project, texts: list[str]) -> dict[str, Any]:
    """Ask the gateway over REST, all texts in one request."""
    (found,) = project.data("edge", "status")
    body = {"inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [len(texts), 1], "data": texts}]}
    request = urllib.request.Request(
        f"http://{found['listen']['rest']}/v2/models/{NAME}/infer",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        data: dict[str, Any] = json.loads(answer.read())
    return data


def test_both_ways_give_the_same_answers(site: Project) -> None:
    client = TritonClient(address(site))
    try:
        whole = client.infer_texts(NAME, TEXTS)
    finally:
        client.close()
    wanted = whole.probabilities
    answer = infer(site, TEXTS)
    (found,) = (np.array(each["data"]).reshape(each["shape"]) for each in answer["outputs"] if each["name"] == "PROBABILITIES")
    assert wanted is not None
    assert found.shape == wanted.shape == (len(TEXTS), wanted.shape[1])
    np.testing.assert_allclose(found, wanted, atol=MOST)
    assert answer["parameters"]["leg"] == "mixed"


def test_ask_and_status_know_of_it(site: Project) -> None:
    (before,) = site.data("edge", "status")
    (answer,) = site.data("ask", NAME, TEXTS[0])
    assert answer["trace"]["leg"] == "mixed"
    assert answer["trace"]["trace_mixed_ms"] > 0
    (after,) = site.data("edge", "status")
    assert after["economics"]["cloudCalls"] == before["economics"]["cloudCalls"] + 1
    assert "answered by both" in site.still("ask", NAME, TEXTS[0]).stdout


def test_packed_and_carried_it_meets_the_same_upper_half(site: Project, tmp_path: Path) -> None:
    site.still("pack", NAME, "-o", str(tmp_path / "m.still.tar"))
    other = Project(tmp_path / "elsewhere", tmp_path / "home", site.cache, task=site.task)
    other.folder.mkdir()
    refused = other.still("edge", str(tmp_path / "m.still.tar"), *PORTS, code=2).stderr
    assert "where the upper half is" in refused
    other.still("edge", str(tmp_path / "m.still.tar"), "--cloud", f"grpc://{address(site)}", "--detach", *PORTS)
    try:
        assert infer(other, TEXTS)["outputs"] == infer(site, TEXTS)["outputs"]
    finally:
        other.still("edge", "stop", NAME)


def test_a_layer_that_is_not_there_is_answered_with_those_that_are(site: Project) -> None:
    right = site.read()
    try:
        site.edit(edge={"cut": {"layer": "layer.7"}})
        refused = site.still("build", str(site.file), code=2).stderr
        assert "spec.edge.cut.layer" in refused
        assert "rows" in refused
        assert "mean0" in refused
    finally:
        site.write(right)
