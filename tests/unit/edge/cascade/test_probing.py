"""A larger model that is not there under its name: told once, with the names that there are, and no longer once it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from stillhouse.edge.oip.messages import message
from stillhouse.edge.probing import Probe
from stillhouse.edge.status import Code, Metadata, Reply, RpcError


class Server:
    """Answers the next of its answers to each question after a model; `names` of the models that it has."""

    def __init__(self, answers: Sequence[RpcError | list[str]], names: Sequence[str] | None = ()) -> None:
        self.answers, self.names = list(answers), names

    async def unary(self, method: str, body: bytes, *, metadata: Metadata = (), told_s: float | None = None) -> Reply:
        if method.endswith("ModelStatistics"):
            raise RpcError(Code.UNAVAILABLE, "restricted")
        if method.endswith("RepositoryIndex"):
            if self.names is None:
                raise RpcError(Code.UNIMPLEMENTED)
            index = message("RepositoryIndexResponse")()
            for name in self.names:
                index.models.add(name=name)
            return Reply(index.SerializeToString())
        answer = self.answers.pop(0)
        if isinstance(answer, RpcError):
            raise answer
        about = message("ModelMetadataResponse")(name="large")
        for name in answer:
            about.outputs.add(name=name)
        return Reply(about.SerializeToString())


NOT_FOUND = RpcError(Code.NOT_FOUND, "unknown model")
AWAY = RpcError(Code.UNAVAILABLE, "away")


async def _at_once(_: float) -> None:
    return None


def test_a_wrong_name_is_told_once_with_those_that_there_are(caplog: pytest.LogCaptureFixture) -> None:
    outputs: list[set[str]] = []
    probe = Probe("large", Server([AWAY, NOT_FOUND, NOT_FOUND, ["PROVENANCE"]], ["b", "a"]), outputs.append, _at_once)
    caplog.set_level("INFO")
    asyncio.run(probe.run())
    warnings = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert warnings == ["large: its server has no model of this name; it has a, b"]
    assert caplog.records[-1].message == "large is there now"
    assert (probe.state, probe.trouble, outputs) == ("there", "", [{"PROVENANCE"}])


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (NOT_FOUND, "missing", "large: its server has no model of this name"),
        (AWAY, "unreachable", "large: its server did not answer"),
        (RpcError(Code.UNIMPLEMENTED), "unknown", ""),
        (RpcError(Code.UNAUTHENTICATED), "unknown", ""),
    ],
)
def test_what_a_server_does_not_say_is_not_known(error: RpcError, state: str, words: str) -> None:
    probe = Probe("large", Server([error], None))
    asyncio.run(probe.once())
    assert (probe.state, probe.trouble) == (state, words if state == "missing" else "")
    assert probe.to_json() == {"model": "large", "state": state, "has": [], "words": words}
