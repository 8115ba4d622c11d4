"""MQTT in a cluster, on a real API server: the bridge that the operator makes connects with what it was given, and no more."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes import client
from tests.integration.test_namespaces import rules
from tests.support.cluster import SOURCES, model
from tests.support.hands import Hands, eventually
from tests.support.hooks import account_token
from tests.support.kube.control_plane import ControlPlane
from tests.support.mosquitto import Mosquitto
from tests.support.operator_process import install_crds, running_operator
from tests.support.wire import until

from stillhouse.edge.mqtt.bridge import BridgeSettings
from stillhouse.edge.mqtt.broker import Credentials, broker
from stillhouse.edge.mqtt.sender import DeviceSettings, MqttSender
from stillhouse.edge.mqtt.words import INFER
from stillhouse.edge.oip.messages import message
from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.watching import Api
from stillhouse.entrypoints.bridging import Behind, bridging, services_of

BRIDGE = "m-main-bridge"


@pytest.fixture
def serving(control_plane: ControlPlane, api_client: client.ApiClient, tmp_path: Path) -> Iterator[Hands]:
    install_crds(control_plane)
    space = f"bridge-{secrets.token_hex(4)}"
    client.CoreV1Api(api_client).create_namespace({"metadata": {"name": space}})
    hands = Hands(api_client, space)
    with running_operator(control_plane, tmp_path, namespace=space, lease_namespace=space, sources=SOURCES) as operator:
        hands.apply(model())
        hands.build()
        hands.roll()
        eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
        yield hands
        assert not [each for each in operator.records() if each["level"] in ("ERROR", "CRITICAL")]


def test_a_bridge_comes_connects_and_goes(
    serving: Hands, control_plane: ControlPlane, api_client: client.ApiClient, tmp_path: Path
) -> None:
    space, core = serving.namespace, serving.core
    mosquitto = Mosquitto(tmp_path / "broker", "allow_anonymous false", f"password_file {tmp_path}/passwords")
    mosquitto.passwords(tmp_path / "passwords", {"bridge": "of the bridge", "press-7": "of the press"})
    mosquitto.start()
    address = f"mqtt://127.0.0.1:{mosquitto.port}"
    try:
        serving.apply(model(serve={"mqtt": {"address": address, "credentials": "at-broker"}}))
        eventually(lambda: serving.condition("BridgeAvailable") == ("False", "SecretMissing"))
        told = {"username": "bridge", "password": "of the bridge"}
        secret = {"metadata": {"name": "at-broker"}, "type": "kubernetes.io/basic-auth", "stringData": told}
        core.create_namespaced_secret(space, secret)
        eventually(lambda: serving.condition("BridgeAvailable") == ("False", "BridgeStarting"))
        live = serving.apps.read_namespaced_deployment(BRIDGE, space)
        serving.roll(BRIDGE)
        eventually(lambda: serving.condition("BridgeAvailable") == ("True", "BridgeServes"))
        assert serving.condition("Ready") == ("True", "Serving")

        # What is there is left alone: the server's defaults are no difference.
        rbac, networks = client.RbacAuthorizationV1Api(api_client), client.NetworkingV1Api(api_client)

        def versions() -> list[str]:
            found = (
                serving.apps.read_namespaced_deployment(BRIDGE, space),
                networks.read_namespaced_network_policy(BRIDGE, space),
                core.read_namespaced_service_account(BRIDGE, space),
            )
            return [each.metadata.resource_version for each in found]

        before, former = versions(), rbac.read_namespaced_role_binding(BRIDGE, space).metadata.uid
        rbac.delete_namespaced_role_binding(BRIDGE, space)
        eventually(lambda: rbac.read_namespaced_role_binding(BRIDGE, space).metadata.uid != former)
        eventually(lambda: serving.condition("BridgeAvailable") == ("True", "BridgeServes"))
        assert versions() == before

        # What its pods may do, and what they do: find the model's pods, and bridge.
        core.create_namespaced_service_account(space, {"metadata": {"name": "nobody"}})
        token, nobody = (account_token(api_client, space, each) for each in (BRIDGE, "nobody"))
        bound = rbac.read_namespaced_role_binding(BRIDGE, space)
        assert [(each.name, each.namespace) for each in bound.subjects] == [(BRIDGE, space)]
        assert {verb for _, resource, verb in rules(control_plane, token, space) - rules(control_plane, nobody, space)} <= {
            "list", "watch",
        }  # fmt: skip
        files = {"username": tmp_path / "username", "password": tmp_path / "password"}
        for name, file in files.items():
            file.write_text(told[name])
        (tmp_path / "token").write_text(token)
        args = dict(each.partition("=")[::2] for each in live.spec.template.spec.containers[0].args)
        asyncio.run(asyncio.wait_for(_bridge(control_plane, args, files, tmp_path), 60))

        serving.apply(model())
        eventually(lambda: serving.condition("BridgeAvailable") == ("", ""))
        eventually(lambda: BRIDGE not in {each.metadata.name for each in serving.apps.list_namespaced_deployment(space).items})
        assert BRIDGE not in {each.metadata.name for each in core.list_namespaced_service_account(space).items}
    finally:
        mosquitto.stop()


async def _bridge(control_plane: ControlPlane, args: dict[str, str], files: dict[str, Path], folder: Path) -> None:
    """Bridge as the pod is told to; a device is answered that none of the model's pods is there."""
    url = urlsplit(control_plane.url)
    api = Api(str(url.hostname), int(url.port or 443), folder / "token", control_plane.ca_file)
    where = broker(args["--broker"], credentials=Credentials(**files))
    settings = BridgeSettings("bridge-1", at_once=int(args["--at-once"]), grace_s=2.0)
    stop, made = asyncio.Event(), list[Any]()
    behind = Behind(services=services_of((args["--slices"],)))
    running = asyncio.ensure_future(bridging(where, settings, behind, stop, made.append, api=api))
    await until(lambda: bool(made) or running.done())
    assert made and made[0].ready
    (folder / "device").write_text("press-7")
    (folder / "secret").write_text("of the press")
    sender = MqttSender(
        broker(args["--broker"], credentials=Credentials(folder / "device", folder / "secret")), DeviceSettings("press-7")
    )
    sender.start()
    request = message("ModelInferRequest")(model_name="m").SerializeToString()
    with pytest.raises(RpcError, match="no backend") as caught:
        await sender.unary(INFER, request, told_s=20.0)
    assert caught.value.code == Code.UNAVAILABLE
    await sender.close()
    stop.set()
    await running
