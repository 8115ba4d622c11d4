"""The configuration file: what planning writes is read, and what is wrong is named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.api_objects import complete
from tests.unit.planning.test_gateway_config import PLACE

from stillhouse.api.edge import Edge
from stillhouse.api.load import parse
from stillhouse.edge.config import read
from stillhouse.edge.sections.places import Engine, LargerBackends
from stillhouse.errors import SpecError, UsageError
from stillhouse.planning.gateway import gateway_config


@pytest.mark.parametrize("base", ["text", "class", "bare"])
def test_what_planning_writes_is_read(tmp_path: Path, base: str) -> None:
    edge = Edge() if base == "bare" else parse(complete(base)).spec.edge
    assert edge is not None
    (tmp_path / "gateway.json").write_text(json.dumps(gateway_config("m", edge, PLACE)))
    config = read(tmp_path / "gateway.json")

    assert config.name == "m"
    assert isinstance(config.edge, Engine)
    if base == "bare":
        assert config.cascade is None
        return
    assert config.cascade is not None
    assert isinstance(config.cascade.larger, LargerBackends)
    assert config.cascade.larger.backends == {"cloud:443": 1.0}
    assert json.loads(config.model_dump_json())["away"] == gateway_config("m", edge, PLACE)["away"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"version": 2}, "version"),
        ({"edge": {"kind": "magic"}}, "edge"),
        ({"listen": {}}, "listen.grpc"),
        ({"surprise": 1}, "surprise"),
        ({"maxInFlight": -1}, "maxInFlight"),
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"clients": {"rate": math.inf}}, "clients.rate"),
        ({"away": {"policy": "queue", "queue": {"folder": "/q", "maxSize": 1, "maxAge": math.inf}}}, "away.queue.maxAge"),
        ({"agreement": {"sample": 0.1, "maxDrift": math.inf}}, "agreement.maxDrift"),
        ({"edge": {"kind": "backends", "backends": {"nonsense": 1}}}, "edge.backends.backends.nonsense.[key]"),
        ({"edge": {"kind": "backends", "backends": {"grpc://x:1": 1}}}, "edge.backends.backends.grpc://x:1.[key]"),
        ({"edge": {"kind": "backends", "backends": {"[::1]:8001": -1}}}, "edge.backends.backends.[::1]:8001"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, object], field: str) -> None:
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps({**gateway_config("m", Edge(), PLACE), **change}))
    with pytest.raises(SpecError) as refused:
        read(file)

    assert refused.value.problem.field == f"gateway.json: {field}"
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused_beyond_as_here(tmp_path: Path, weight: float) -> None:
    larger = {"kind": "backends", "model": "big", "backends": {"cloud:443": weight}}
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps({**gateway_config("m", Edge(), PLACE), "cascade": {"folder": "/x", "larger": larger}}))
    with pytest.raises(SpecError) as refused:
        read(file)
    assert refused.value.problem.field == "gateway.json: cascade.larger.backends.backends.cloud:443"


def test_a_file_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "gateway.json")


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=60))
def test_no_content_breaks_it(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("config") / "gateway.json"
    file.write_bytes(content)
    with pytest.raises(SpecError):
        read(file)
