"""What is said where no cluster, or not that one, is configured."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stillhouse.clients.kube.api import connect
from stillhouse.clients.kube.interface import Unavailable
from stillhouse.entrypoints.remote.doctoring import examine_cluster
from stillhouse.entrypoints.remote.place import Place
from stillhouse.errors import UsageError

CONFIG = """
apiVersion: v1
kind: Config
current-context: good
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: x}}]
contexts: [{name: good, context: {cluster: c, user: u}}, {name: other, context: {cluster: c, user: u}}]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(CONFIG)
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    return path


def test_a_context_that_is_not_there_is_answered_with_those_that_are(file: Path) -> None:
    with pytest.raises(UsageError) as told:
        asyncio.run(connect("nosuch"))
    problem = told.value.problem
    assert (problem.field, problem.found, problem.allowed) == ("--context", "nosuch", "good, other")


@pytest.mark.parametrize("content", ["", "{", None])
def test_without_a_configuration_it_says_so(file: Path, content: str | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(UsageError, match="no cluster is configured"):
        asyncio.run(connect("nosuch"))


def test_a_server_that_does_not_answer_is_no_list_of_missing_rights(file: Path) -> None:
    async def examine() -> None:
        async with await connect("good") as kube:
            await examine_cluster(kube, Place(), "stillhouse")

    with pytest.raises(Unavailable) as told:
        asyncio.run(examine())
    assert told.value.exit_code == 5
    assert "KUBECONFIG" in told.value.problem.fix
