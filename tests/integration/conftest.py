"""Fixtures of the integration tier: a real API server, one per session, a namespace per test."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from kubernetes import client
from tests.support.kube.binaries import PROGRAMS, SERVERS, Unavailable, provide
from tests.support.kube.control_plane import ControlPlane, running_control_plane
from tests.support.tiers import require


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Time this tier's tests without their fixtures: whichever comes first may have to build the programs, for minutes."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(func_only=True))


@pytest.fixture(scope="session")
def binaries(pytestconfig: pytest.Config) -> dict[str, Path]:
    """The real etcd and kube-apiserver; a first run builds them, which takes minutes and says so."""
    return _provided(pytestconfig, SERVERS)


@pytest.fixture(scope="session")
def helm(pytestconfig: pytest.Config) -> Path:
    """The real Helm, built likewise."""
    return _provided(pytestconfig, ("helm",))["helm"]


@pytest.fixture(scope="session")
def programs(pytestconfig: pytest.Config) -> dict[str, Path]:
    """Every program that tests of any tier start."""
    return _provided(pytestconfig, PROGRAMS)


def _provided(pytestconfig: pytest.Config, names: Iterable[str]) -> dict[str, Path]:
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    try:
        # Uncaptured, else the build would look like a hanging test.
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            return provide(names)
    except Unavailable as why:
        require("integration", str(why))
        raise  # not reached: something is missing


@pytest.fixture(scope="session")
def control_plane(binaries: dict[str, Path]) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver, shared by the session."""
    with running_control_plane(binaries) as running:
        yield running


@pytest.fixture(scope="session")
def controller_manager(pytestconfig: pytest.Config) -> Path:
    """The real kube-controller-manager, built likewise. See `tests.support.kube.controllers`."""
    return _provided(pytestconfig, ("kube-controller-manager",))["kube-controller-manager"]


@pytest.fixture
def api_client(control_plane: ControlPlane) -> Iterator[client.ApiClient]:
    """An administrator's client."""
    with control_plane.client() as api:
        yield api


@pytest.fixture
def namespace(api_client: client.ApiClient) -> str:
    """A new, empty namespace. It goes with the control plane: no controller runs that could empty and delete it."""
    name = f"test-{secrets.token_hex(6)}"
    client.CoreV1Api(api_client).create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    return name
