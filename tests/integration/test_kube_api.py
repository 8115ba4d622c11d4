"""The client of a real API server obeys the contract that the fake does (tests/contract/kube/test_fake.py)."""

from __future__ import annotations

import asyncio

import pytest
from kubernetes.aio import client
from tests.support.kube.control_plane import ControlPlane
from tests.support.kube_contract import CASES, Case

from stillhouse.clients.kube.api import KubeApi
from stillhouse.clients.kube.interface import Forbidden, Invalid, Unavailable
from stillhouse.clients.kube.kinds import CONFIG_MAP, POD, Kind
from stillhouse.resources import quantities

NAMESPACE = Kind("v1", "Namespace", "namespaces")


def connection(control_plane: ControlPlane, token: str = "") -> client.Configuration:
    configuration = client.Configuration(host=control_plane.url)
    configuration.ssl_ca_cert = str(control_plane.ca_file)
    configuration.api_key = {"BearerToken": token or control_plane.token}
    configuration.api_key_prefix = {"BearerToken": "Bearer"}
    return configuration


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_real_server(case: Case, control_plane: ControlPlane) -> None:
    name = case.__name__.replace("_", "-")[:60].strip("-")

    async def run() -> None:
        async with KubeApi(connection(control_plane)) as kube:
            await kube.create(NAMESPACE, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            await case(kube, name)

    asyncio.run(run())


def test_refusals_have_their_kind(control_plane: ControlPlane) -> None:
    async def run() -> None:
        async with KubeApi(connection(control_plane)) as kube:
            with pytest.raises(Invalid, match="name"):
                await kube.create(CONFIG_MAP, "default", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "A B"}})
        async with KubeApi(connection(control_plane, "nobody")) as kube:
            with pytest.raises(Forbidden):
                await kube.get(CONFIG_MAP, "default", "c")

    asyncio.run(run())


def test_a_server_that_does_not_answer(control_plane: ControlPlane) -> None:
    async def run() -> None:
        configuration = connection(control_plane)
        configuration.host = "https://127.0.0.1:9"
        async with KubeApi(configuration) as kube:
            with pytest.raises(Unavailable, match="does not answer"):
                await kube.get(CONFIG_MAP, "default", "c")

    asyncio.run(run())


def test_a_list_of_several_pages_is_whole(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillhouse.clients.kube.api.PAGE", 3)

    async def run() -> None:
        async with KubeApi(connection(control_plane)) as kube:
            for number in range(8):
                meta = {"name": f"page-{number}", "labels": {"paged": "yes"}}
                await kube.create(CONFIG_MAP, "default", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
            found = await kube.find(CONFIG_MAP, "default", "paged=yes")
            assert [each["metadata"]["name"] for each in found] == [f"page-{number}" for number in range(8)]

    asyncio.run(run())


def test_a_list_of_the_servers_cache_says_how_new_it_is(control_plane: ControlPlane) -> None:
    async def run() -> None:
        async with KubeApi(connection(control_plane)) as kube:
            meta = {"name": "cached", "labels": {"cached": "yes"}}
            made = await kube.create(CONFIG_MAP, "default", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
            own = int(made["metadata"]["resourceVersion"])
            version = 0
            while version < own:  # the cache follows the store
                version, found = await kube.find_cached(CONFIG_MAP, "default", "cached=yes")
            assert [(each["kind"], each["metadata"]["name"]) for each in found] == [("ConfigMap", "cached")]

    asyncio.run(run())


@pytest.mark.parametrize(("cpus", "memory"), [(1.0, 512 << 20), (0.25, 1_500_000_000), (2.5, 1000), (0.001, 1536 << 20), (16, 7)])
def test_quantities_come_back_as_builders_write_them(cpus: float, memory: int, control_plane: ControlPlane) -> None:
    """Else every reconcile would see a difference, and write."""
    amounts = {"cpu": quantities.cpu(cpus), "memory": quantities.memory(memory)}
    container = {"name": "c", "image": "localhost/none", "resources": {"limits": amounts, "requests": amounts}}
    name = f"q-{round(cpus * 1000)}-{memory}"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}

    async def run() -> None:
        async with KubeApi(connection(control_plane)) as kube:
            made = await kube.create(POD, "default", pod)
            assert made["spec"]["containers"][0]["resources"] == container["resources"]

    asyncio.run(run())
