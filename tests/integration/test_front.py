"""A gateway before a model on a real API server: clients are led there and back in an order in which nobody is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes import client
from kubernetes.dynamic import DynamicClient
from tests.support.cluster import SOURCES, model, record
from tests.support.hands import PLACE, Hands, eventually
from tests.support.hooks import account_token
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import Operator, install_crds, running_operator

from stillhouse.edge.watching import Api, Watcher
from stillhouse.entrypoints.answering import Answering
from stillhouse.reconcile.controller import WATCHED
from stillhouse.resources import labels
from stillhouse.resources.services import METRICS_PORT

GATEWAY = "m-main-gateway"


@pytest.fixture
def serving(control_plane: ControlPlane, api_client: client.ApiClient, tmp_path: Path) -> Iterator[tuple[Hands, Operator]]:
    """A model that serves, and the operator that sees to it."""
    install_crds(control_plane)
    space = f"front-{secrets.token_hex(4)}"
    client.CoreV1Api(api_client).create_namespace({"metadata": {"name": space}})
    hands = Hands(api_client, space)
    with running_operator(control_plane, tmp_path, namespace=space, lease_namespace=space, sources=SOURCES) as operator:
        hands.apply(model())
        hands.build()
        hands.roll()
        eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
        yield hands, operator


def component(service: Any) -> str:
    return str(service.spec.selector[labels.COMPONENT])


def told(find: Callable[..., Any], namespace: str, since: str) -> list[tuple[int, str, Any]]:
    """Return the events of a kind since a version, as a watch has them: version, event, object. Versions are all kinds' clock."""
    from kubernetes.watch import Watch

    found = []
    for event in Watch().stream(find, namespace, resource_version=since, timeout_seconds=1):
        found.append((int(event["object"].metadata.resource_version), event["type"], event["object"]))
    return found


def test_clients_are_led_to_the_gateway_and_back(serving: tuple[Hands, Operator], api_client: client.ApiClient) -> None:
    hands, operator = serving
    space = hands.namespace
    networks, slices = client.NetworkingV1Api(api_client), client.DiscoveryV1Api(api_client)
    since = hands.objects.list_namespaced_custom_object(*PLACE, space, "distilledmodels")["metadata"]["resourceVersion"]

    def service() -> Any:
        return hands.core.read_namespaced_service("m", space)

    def deployments() -> set[str]:
        return {each.metadata.name for each in hands.apps.list_namespaced_deployment(space).items}

    hands.apply(model(edge={"rest": False}))
    eventually(lambda: GATEWAY in deployments())
    eventually(lambda: hands.condition("GatewayAvailable") == ("False", "GatewayStarting"))
    assert component(service()) == "serve"
    hands.roll(GATEWAY)
    eventually(lambda: component(service()) == "gateway")
    eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
    eventually(lambda: hands.condition("GatewayAvailable") == ("True", "GatewayServes"))

    # A minute later nobody knows the model's pods any more: they answer the gateway alone.
    earlier = {"metadata": {"annotations": {labels.MOVED: "2026-01-01T00:00:00Z"}}}
    hands.core.patch_namespaced_service("m", space, earlier)
    eventually(lambda: networks.read_namespaced_network_policy("m-main", space).spec.ingress[0]._from)

    # Back: a slice still leads to one of its pods.
    marks = {**labels.labels("m", "main", "gateway")}
    pod = {"metadata": {"name": f"{GATEWAY}-1", "labels": marks}, "spec": {"containers": [{"name": "gateway", "image": "none"}]}}
    hands.core.create_namespaced_pod(space, pod)
    target = {"kind": "Pod", "name": f"{GATEWAY}-1", "namespace": space}
    body = {
        "metadata": {"name": "m-1", "labels": {"kubernetes.io/service-name": "m"}}, "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 8001}], "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": target}],
    }  # fmt: skip
    slices.create_namespaced_endpoint_slice(space, body)
    hands.apply(model())
    eventually(lambda: component(service()) == "serve")
    eventually(lambda: hands.condition("GatewayAvailable") == ("False", "GatewayLeaving"))
    eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
    assert GATEWAY in deployments()
    slices.patch_namespaced_endpoint_slice("m-1", space, {"endpoints": [{"addresses": ["10.0.0.2"]}]})
    eventually(lambda: GATEWAY not in deployments())
    assert GATEWAY in {each.metadata.name for each in hands.core.list_namespaced_service_account(space).items}
    hands.core.delete_namespaced_pod(f"{GATEWAY}-1", space, grace_period_seconds=0)
    eventually(lambda: GATEWAY not in {each.metadata.name for each in hands.core.list_namespaced_service_account(space).items})
    eventually(lambda: hands.condition("GatewayAvailable") == ("", ""))

    story: list[tuple[int, str]] = []
    former = "serve"
    for version, event, each in told(hands.core.list_namespaced_service, space, since):
        if each.metadata.name == "m":
            assert event == "MODIFIED", "clients' Service is never made anew: its name would be nobody's for a moment"
            if component(each) != former:
                story.append((version, f"clients go to {component(each)}"))
            former = component(each)
    for version, event, each in told(hands.apps.list_namespaced_deployment, space, since):
        if each.metadata.name == GATEWAY and event == "MODIFIED" and (each.status.available_replicas or 0) > 0:
            story.append((version, "gateway answers"))
        if each.metadata.name == GATEWAY and event == "DELETED":
            story.append((version, "gateway goes"))
    former = "everybody"
    for version, _, each in told(networks.list_namespaced_network_policy, space, since):
        if each.metadata.name == "m-main":
            answered = "its gateway" if each.spec.ingress[0]._from else "everybody"
            if answered != former:
                story.append((version, f"model answers {answered}"))
            former = answered
    for version, event, each in told(hands.core.list_namespaced_service_account, space, since):
        if each.metadata.name == GATEWAY and event == "DELETED":
            story.append((version, "account goes"))
    for version, event, _ in told(slices.list_namespaced_endpoint_slice, space, since):
        if event == "MODIFIED":
            story.append((version, "slice is changed"))
    assert list(dict.fromkeys(each for _, each in sorted(story))) == [
        "gateway answers", "clients go to gateway", "model answers its gateway", "model answers everybody", "clients go to serve",
        "slice is changed", "gateway goes", "account goes",
    ]  # fmt: skip
    assert not [each for each in operator.records() if each["level"] in ("ERROR", "CRITICAL")]


def test_whether_the_agreement_holds_stands_in_the_status(
    control_plane: ControlPlane, api_client: client.ApiClient, namespace: str, tmp_path: Path
) -> None:
    install_crds(control_plane)
    hands = Hands(api_client, namespace)
    cascade = {"larger": {"model": "big", "address": "grpcs://cloud:443"}, "data": {"uri": "data:gate"}, "targetAgreement": "95%"}
    edge = {"cascade": cascade, "agreement": {"sample": "5%"}}
    message = "91.0 % of all answers are the larger model's"
    reasons = [{"type": "AgreementLow", "message": message}]
    told = {"version": 1, "agreement": {"questions": {"AgreementLow": "outside"}, "reasons": reasons}}
    endpoint = Answering("127.77.0.32", METRICS_PORT, {"/status": lambda: (200, json.dumps(told).encode())}, "test")
    words = ["--agreement-seconds=0.2"]
    place = {"namespace": namespace, "lease_namespace": namespace, "sources": SOURCES, "words": words}
    try:
        with running_operator(control_plane, tmp_path, **place) as operator:
            hands.apply(model(edge=edge, index={"data": {"uri": "data:gate"}}))
            hands.end("resolve", {"next": "gate"})
            hands.end("gate", {"next": None, "record": {**record(), "cascade": "sha256:" + "d" * 64}})
            eventually(lambda: hands.condition("AgreementHolds") == ("Unknown", "AgreementUnknown"))
            live = eventually(lambda: hands.apps.read_namespaced_deployment(GATEWAY, namespace))
            meta = {"name": f"{GATEWAY}-1", "labels": live.spec.template.metadata.labels}
            pod = {"metadata": meta, "spec": {"containers": [{"name": "gateway", "image": "localhost/none"}]}}
            hands.core.create_namespaced_pod(namespace, pod)
            ready = {"type": "Ready", "status": "True"}
            status = {"phase": "Running", "podIP": "127.77.0.32", "podIPs": [{"ip": "127.77.0.32"}], "conditions": [ready]}
            hands.core.patch_namespaced_pod_status(f"{GATEWAY}-1", namespace, {"status": status})
            eventually(lambda: hands.condition("AgreementHolds") == ("False", "AgreementLow"))

            def tells(reason: str) -> list[str]:
                found = client.EventsV1Api(api_client).list_namespaced_event(namespace).items
                return [f"{each.type}: {each.note}" for each in found if each.reason == reason]

            assert eventually(lambda: tells("AgreementLow")) == [f"Warning: AgreementLow: {message}"]
            told["agreement"] = {"questions": {"AgreementLow": "ok"}, "reasons": []}
            eventually(lambda: hands.condition("AgreementHolds") == ("True", "WithinBounds"))
            assert len(eventually(lambda: tells("WithinBounds"))) == 1
            assert not [each for each in operator.records() if each["level"] in ("ERROR", "CRITICAL")]
    finally:
        endpoint.close()


FULL: dict[str, Any] = {
    "clients": {"tokens": "clients", "rate": 100},
    "tls": {"secret": "front", "clientAuthority": "authority"},
    "guard": {"patterns": [{"name": "mail", "named": "email"}], "audit": {"key": "key"}},
    "telemetry": {"endpoint": "http://collector:4318"},
}


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_what_is_there_is_left_alone(kind: str, serving: tuple[Hands, Operator], api_client: client.ApiClient) -> None:
    """The server's defaults are no difference: of all objects one that was edited is written, and no other."""
    hands, _ = serving
    space, dynamic = hands.namespace, DynamicClient(api_client)
    kinds = [each for each in WATCHED if each.name not in ("DistilledModel", "ModelRevision", "Pod")]

    def versions() -> dict[str, str]:
        found = {}
        for place in kinds:
            resource = dynamic.resources.get(api_version=place.api_version, kind=place.name)
            for each in resource.get(namespace=space, label_selector=labels.MODEL).to_dict()["items"]:
                found[f"{place.name}/{each['metadata']['name']}"] = each["metadata"]["resourceVersion"]
        return found

    hands.apply(model(edge={**FULL, "run": {"kind": kind, "podTemplate": {"metadata": {"labels": {"team": "search"}}}}}))
    eventually(lambda: f"{kind}/{GATEWAY}" in versions())
    eventually(lambda: hands.condition("GatewayAvailable")[1] == "SecretMissing")
    before = versions()
    assert {f"RoleBinding/{GATEWAY}", f"NetworkPolicy/{GATEWAY}", f"Service/{GATEWAY}"} <= before.keys() or kind == "DaemonSet"
    hands.core.patch_namespaced_service(GATEWAY, space, {"spec": {"selector": {"stillhouse.io/model": "another"}}})
    eventually(lambda: hands.core.read_namespaced_service(GATEWAY, space).spec.selector["stillhouse.io/model"] == "m")
    after = versions()
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == {f"Service/{GATEWAY}"}


def test_a_watcher_follows_slices_with_the_right_to_nothing_else(
    control_plane: ControlPlane, api_client: client.ApiClient, namespace: str, tmp_path: Path
) -> None:
    core, rbac = client.CoreV1Api(api_client), client.RbacAuthorizationV1Api(api_client)
    slices = client.DiscoveryV1Api(api_client)
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "gateway"}})
    rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    rbac.create_namespaced_role(namespace, {"metadata": {"name": "gateway"}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "gateway", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gateway"}
    rbac.create_namespaced_role_binding(namespace, {"metadata": {"name": "gateway"}, "roleRef": role, "subjects": [subject]})
    token = tmp_path / "token"
    token.write_text(account_token(api_client, namespace, "gateway"))
    url = urlsplit(control_plane.url)
    api = Api(str(url.hostname), int(url.port or 443), token, control_plane.ca_file)

    def write(*hosts: str, name: str = "m-1") -> None:
        endpoints = [{"addresses": [each], "conditions": {"ready": True, "serving": True}} for each in hosts]
        ports = [{"name": "grpc", "port": 8001, "protocol": "TCP"}]
        meta = {"name": name, "labels": {"kubernetes.io/service-name": "m"}}
        body = {"metadata": meta, "addressType": "IPv4", "ports": ports, "endpoints": endpoints}
        try:
            slices.create_namespaced_endpoint_slice(namespace, body)
        except client.ApiException as error:
            assert error.status == 409
            slices.patch_namespaced_endpoint_slice(name, namespace, {"endpoints": endpoints})

    async def work() -> None:
        told: list[dict[str, float]] = []
        watcher = Watcher(api, namespace, "m", 8001, lambda found: told.append(dict(found)))
        write("10.0.0.1")
        await watcher.begin()
        assert told == [{"10.0.0.1:8001": 1.0}]
        task = asyncio.ensure_future(watcher.run())

        async def comes(*addresses: str) -> None:
            async with asyncio.timeout(30):
                while not told or set(told[-1]) != set(addresses):
                    await asyncio.sleep(0.02)

        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, write, "10.0.0.1", "10.0.0.2")
        await comes("10.0.0.1:8001", "10.0.0.2:8001")
        await loop.run_in_executor(None, lambda: write("10.0.0.3", name="m-2"))
        await comes("10.0.0.1:8001", "10.0.0.2:8001", "10.0.0.3:8001")
        await loop.run_in_executor(None, lambda: slices.delete_namespaced_endpoint_slice("m-1", namespace))
        await comes("10.0.0.3:8001")
        assert watcher.failures == 0
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        # A token that is not known any more: it goes on with whom it knows.
        token.write_text("nobody's")
        last = list(told)
        await watcher.begin()
        assert (watcher.failures, told) == (1, last)

    asyncio.run(asyncio.wait_for(work(), 60))
