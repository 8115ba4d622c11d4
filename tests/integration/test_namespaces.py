"""Two namespaces with models of the same names: what belongs to one names, reads and reaches nothing of the other."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes import client
from kubernetes.dynamic import DynamicClient
from tests.integration.test_front import GATEWAY
from tests.support.cluster import SOURCES, model, record
from tests.support.hands import PLACE, Hands, eventually
from tests.support.hooks import account_token
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import install_crds, running_operator

from stillhouse.edge.watching import Api, Watcher
from stillhouse.reconcile.controller import WATCHED
from stillhouse.resources import labels

GOLDEN = Path(__file__).parent / "golden"
CASCADE = {"larger": {"model": "big"}, "data": {"uri": "data:gate"}, "targetAgreement": "95%"}
EDGE = {"cascade": CASCADE, "clients": {"tokens": "clients"}, "backendToken": "big-token", "run": {"replicas": 1}}


@pytest.fixture
def spaces(control_plane: ControlPlane, api_client: client.ApiClient, tmp_path: Path) -> Iterator[tuple[Hands, Hands]]:
    """The namespaces ours and theirs under one operator; they have what a gateway of ours would like to have."""
    install_crds(control_plane)
    core, rbac = client.CoreV1Api(api_client), client.RbacAuthorizationV1Api(api_client)
    token = secrets.token_hex(4)
    ours, theirs = Hands(api_client, f"ours-{token}"), Hands(api_client, f"theirs-{token}")
    for hands in (ours, theirs):
        core.create_namespace({"metadata": {"name": hands.namespace}})
    rendered = yaml.safe_load_all((GOLDEN / "default.yaml").read_text())
    role = next(each for each in rendered if each["kind"] == "ClusterRole" and each["metadata"]["name"] == "stillhouse-gateway")
    with contextlib.suppress(client.ApiException):
        rbac.create_cluster_role(role)
    for name in ("clients", "big-token"):
        core.create_namespaced_secret(theirs.namespace, {"metadata": {"name": name}, "stringData": {"token": "t" * 32}})
    bindings = {"name": labels.SOURCES_NAME, "labels": dict([labels.SOURCES_LABEL.split("=")])}
    core.create_namespaced_config_map(theirs.namespace, {"metadata": bindings, "data": {"models.private": "pvc://claim/private"}})
    with running_operator(control_plane, tmp_path, lease_namespace=ours.namespace, sources=SOURCES):
        yield ours, theirs


def fronted(hands: Hands) -> None:
    """A model behind a gateway with a cascade."""
    hands.apply(model(edge=EDGE, index={"data": {"uri": "data:gate"}}))
    hands.end("resolve", {"next": "gate"})
    hands.end("gate", {"next": None, "record": {**record(), "cascade": "sha256:" + "d" * 64}})
    eventually(lambda: hands.apps.read_namespaced_deployment(GATEWAY, hands.namespace))


def write_slices(api: client.ApiClient, namespace: str, service: str, host: str) -> None:
    endpoints = [{"addresses": [host], "conditions": {"ready": True, "serving": True}}]
    body = {
        "metadata": {"name": f"{service}-1", "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 8001, "protocol": "TCP"}], "endpoints": endpoints,
    }  # fmt: skip
    client.DiscoveryV1Api(api).create_namespaced_endpoint_slice(namespace, body)


def rules(control_plane: ControlPlane, token: str, namespace: str) -> set[tuple[str, str, str]]:
    """What a token may do in a namespace: group, resource, verb."""
    configuration = client.Configuration(host=control_plane.url)
    configuration.ssl_ca_cert = str(control_plane.ca_file)
    configuration.api_key = {"authorization": f"Bearer {token}"}
    with client.ApiClient(configuration) as api:
        asked = {"spec": {"namespace": namespace}}
        found = client.AuthorizationV1Api(api).create_self_subject_rules_review(asked).status
        assert not found.incomplete
        return {
            (group, resource, verb)
            for rule in found.resource_rules
            for group in rule.api_groups or []
            for resource in rule.resources or []
            for verb in rule.verbs
        }


def test_nothing_of_one_namespace_names_reads_or_reaches_another(
    spaces: tuple[Hands, Hands], control_plane: ControlPlane, api_client: client.ApiClient, tmp_path: Path
) -> None:
    ours, theirs = spaces
    for hands in spaces:
        fronted(hands)
    # A Secret, and a binding of sources, count in their own namespace alone.
    eventually(lambda: ours.condition("GatewayAvailable") == ("False", "SecretMissing"))
    eventually(lambda: theirs.condition("GatewayAvailable") == ("False", "GatewayStarting"))
    for hands in spaces:
        hands.apply(model("building"))
        eventually(hands.jobs)
        hands.apply(model("private", source={"uri": "models:private", "task": "sentence-embedding"}))
    eventually(lambda: ours.condition("Accepted", "private") == ("False", "SourceUnusable"))
    eventually(lambda: theirs.condition("Accepted", "private") == ("True", "Accepted"))

    # No object of ours says anything of theirs, and nothing of ours lies with them.
    dynamic, seen = DynamicClient(api_client), set()
    uids = {ours.get(name)["metadata"]["uid"] for name in ("m", "building", "private")}
    for kind in WATCHED:
        resource = dynamic.resources.get(api_version=kind.api_version, kind=kind.name)
        for each in resource.get(namespace=ours.namespace).to_dict()["items"]:
            seen.add(kind.name)
            assert theirs.namespace not in str(each)
        for each in resource.get(namespace=theirs.namespace).to_dict()["items"]:
            assert ours.namespace not in str(each)
            assert uids.isdisjoint(owner["uid"] for owner in each["metadata"].get("ownerReferences") or [])
    assert {
        "DistilledModel",
        "ModelRevision",
        "Job",
        "Deployment",
        "Service",
        "ServiceAccount",
        "RoleBinding",
        "NetworkPolicy",
    } <= seen

    # Pods that a policy names are those of its namespace: who reads metrics is the only one from elsewhere.
    policies = client.NetworkingV1Api(api_client).list_namespaced_network_policy(ours.namespace).items
    found = {each.metadata.name: each.spec for each in policies}
    assert {"m-main", GATEWAY} <= found.keys()
    for name in ("m-main", GATEWAY):
        chosen = {peer.namespace_selector.match_labels["kubernetes.io/metadata.name"] for rule in found[name].ingress
                  for peer in rule._from or [] if peer.namespace_selector}  # fmt: skip
        assert chosen == {"stillhouse"}
    peers = [peer for rule in found[GATEWAY].egress for peer in rule.to or []]
    assert peers and all(peer.pod_selector and not peer.namespace_selector and not peer.ip_block for peer in peers)

    # What an account of ours may do.
    core = client.CoreV1Api(api_client)
    core.create_namespaced_service_account(ours.namespace, {"metadata": {"name": "nobody"}})
    nobody = account_token(api_client, ours.namespace, "nobody")
    made = {each.metadata.name for each in core.list_namespaced_service_account(ours.namespace).items} - {"nobody"}
    assert {GATEWAY, "m-serve"} <= made
    slices = {("discovery.k8s.io", "endpointslices", verb) for verb in ("list", "watch")}
    for name in made:
        token = account_token(api_client, ours.namespace, name)
        more = [
            rules(control_plane, token, each) - rules(control_plane, nobody, each) for each in (ours.namespace, theirs.namespace)
        ]
        assert more == [slices if name == GATEWAY else set(), set()]

    # A gateway that were told to ask for their model's pods is refused.
    write_slices(api_client, ours.namespace, "big", "10.0.0.1")
    write_slices(api_client, theirs.namespace, "big", "10.0.0.2")
    file = tmp_path / "token"
    file.write_text(account_token(api_client, ours.namespace, GATEWAY))
    url = urlsplit(control_plane.url)
    api = Api(str(url.hostname), int(url.port or 443), file, control_plane.ca_file)

    async def known(namespace: str) -> tuple[list[str], int]:
        told: list[str] = []
        watcher = Watcher(api, namespace, "big", 8001, told.extend)
        await watcher.begin()
        return told, watcher.failures

    assert asyncio.run(known(ours.namespace)) == (["10.0.0.1:8001"], 0)
    assert asyncio.run(known(theirs.namespace)) == ([], 1)


def _edge(**parts: Any) -> dict[str, Any]:
    return model(edge=parts, index={"data": {"uri": "data:gate"}})


STEP = {"name": "then", "model": "theirs/big", "inputs": {"x": "EMBEDDING"}, "outputs": {"y": "Y"}}


@pytest.mark.parametrize(
    "body",
    [
        _edge(cascade={**CASCADE, "larger": {"model": "theirs/big"}}),
        _edge(cascade={**CASCADE, "larger": {"model": "big.theirs"}}),
        _edge(cascade={**CASCADE, "larger": {"model": "big.theirs.svc"}}),
        model(edge={}, pipeline={"placement": "apart", "steps": [STEP]}),
        _edge(clients={"tokens": "theirs/clients"}),
        _edge(tls={"secret": "theirs/tls"}),
        _edge(cascade=CASCADE, backendToken="theirs/big-token"),
        _edge(cascade=CASCADE, backendAuthority="theirs/ca"),
        _edge(guard={"audit": {"key": "theirs/key"}}),
        _edge(run={"replicas": 1, "claim": "theirs/claim"}),
        model(credentials=[{"for": "s3://bucket", "secret": "theirs/keys"}]),
        model(namespace="theirs"),
        _edge(cascade={**CASCADE, "larger": {"model": "big", "namespace": "theirs"}}),
    ],
    ids=[
        "larger", "dotted", "service", "step", "tokens", "tls", "token", "authority", "audit", "claim", "credentials", "spec",
        "in-larger",
    ],
)  # fmt: skip
def test_no_field_names_another_namespace(
    body: dict[str, Any], control_plane: ControlPlane, api_client: client.ApiClient, namespace: str
) -> None:
    """A name that another namespace is written into is none; the same one without it is taken."""
    install_crds(control_plane)
    objects = client.CustomObjectsApi(api_client)

    def create(given: dict[str, Any]) -> int:
        whole = {**given, "metadata": {"name": f"m-{secrets.token_hex(3)}", "namespace": namespace}}
        try:
            objects.create_namespaced_custom_object(*PLACE, namespace, "distilledmodels", whole, field_validation="Strict")
        except client.ApiException as error:
            return int(error.status)
        return 201

    assert create(body) in (400, 422)
    assert create(_without(body)) == 201


def _without(value: Any) -> Any:
    """The same without the other namespace."""
    if isinstance(value, dict):
        return {name: _without(each) for name, each in value.items() if name != "namespace"}
    if isinstance(value, list):
        return [_without(each) for each in value]
    return value.removeprefix("theirs/").partition(".theirs")[0] if isinstance(value, str) else value
