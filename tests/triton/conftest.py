"""The triton tier: the real server of `nvidia-pytriton` on loopback, with a model of a few KB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cli import Project
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


@pytest.fixture(scope="session")
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
