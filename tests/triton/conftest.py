"""The triton tier: the real server of `nvidia-pytriton` on loopback, with a model of a few KB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.tiers import require
from tests.support.triton import Site, build, missing, running

from stillhouse.clients.triton import TritonClient
from stillhouse.inference.engine import Engine
from stillhouse.triton.server import ServerHandle


@pytest.fixture(scope="session", autouse=True)
def _tier() -> None:
    require("triton", missing())


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One backend directory for all servers."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Site:
    return build(tmp_path_factory.mktemp("site"), cache)


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[ServerHandle]:
    with running(site) as handle:
        yield handle


@pytest.fixture
def client(server: ServerHandle) -> Iterator[TritonClient]:
    with TritonClient(server.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def engine(site: Site) -> Engine:
    return Engine(site.artifact)
