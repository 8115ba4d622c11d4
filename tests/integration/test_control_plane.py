"""The harness itself: what the other integration tests take for granted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest
import yaml
from kubernetes import client, config
from tests.support.kube.control_plane import ControlPlane

GROUP = "harness.stillhouse.io"

# The smallest resource with a cross-field rule: bounds that must be in order.
RANGE_CRD = f"""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: ranges.{GROUP}}}
spec:
  group: {GROUP}
  scope: Namespaced
  names: {{plural: ranges, singular: range, kind: Range, listKind: RangeList}}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [low, high]
            properties:
              low: {{type: integer}}
              high: {{type: integer}}
              step: {{type: integer, default: 1}}
            x-kubernetes-validations:
            - {{rule: "self.low <= self.high", message: "low must not be above high"}}
"""


def test_what_is_written_can_be_read(api_client: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api_client)
    core.create_namespaced_config_map(
        namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="note"), data={"key": "value"})
    )

    read = core.read_namespaced_config_map("note", namespace)

    assert read.data == {"key": "value"}
    assert read.metadata.uid


def test_each_test_has_a_namespace_of_its_own(api_client: client.ApiClient, namespace: str) -> None:
    assert client.CoreV1Api(api_client).list_namespaced_config_map(namespace).items == []


@pytest.fixture
def ranges(api_client: client.ApiClient) -> client.CustomObjectsApi:
    """The API of resource `ranges`, installed once per session and served from now on."""
    extensions = client.ApiextensionsV1Api(api_client)
    name = f"ranges.{GROUP}"
    try:
        extensions.create_custom_resource_definition(yaml.safe_load(RANGE_CRD))
    except client.ApiException as answer:
        if answer.status != 409:  # another test has installed it
            raise
    deadline = time.monotonic() + 30
    while not _is_established(extensions.read_custom_resource_definition(name)):
        if time.monotonic() > deadline:
            pytest.fail(f"{name} is not served: {extensions.read_custom_resource_definition(name).status}")
        time.sleep(0.05)
    return client.CustomObjectsApi(api_client)


def _is_established(crd: client.V1CustomResourceDefinition) -> bool:
    conditions = (crd.status.conditions if crd.status else None) or []
    return any(condition.type == "Established" and condition.status == "True" for condition in conditions)


def _range(low: int, high: int) -> dict[str, object]:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Range", "metadata": {"name": "r"}, "spec": {"low": low, "high": high}}


def test_a_custom_resource_is_defaulted(ranges: client.CustomObjectsApi, namespace: str) -> None:
    ranges.create_namespaced_custom_object(GROUP, "v1", namespace, "ranges", _range(1, 2))

    read = ranges.get_namespaced_custom_object(GROUP, "v1", namespace, "ranges", "r")

    assert read["spec"] == {"low": 1, "high": 2, "step": 1}


def test_a_cel_rule_refuses_what_breaks_it(ranges: client.CustomObjectsApi, namespace: str) -> None:
    with pytest.raises(client.ApiException) as refused:
        ranges.create_namespaced_custom_object(GROUP, "v1", namespace, "ranges", _range(2, 1))

    assert refused.value.status == 422
    assert "low must not be above high" in json.loads(refused.value.body)["message"]


def test_rbac_decides(api_client: client.ApiClient, namespace: str) -> None:
    api_client.set_default_header("Impersonate-User", "somebody")

    with pytest.raises(client.ApiException) as refused:
        client.CoreV1Api(api_client).list_namespaced_config_map(namespace)

    assert refused.value.status == 403


def test_a_wrong_token_is_refused(control_plane: ControlPlane) -> None:
    with control_plane.client() as stranger:
        stranger.configuration.api_key = {"authorization": "wrong"}
        with pytest.raises(client.ApiException) as refused:
            client.CoreV1Api(stranger).list_namespace()

    assert refused.value.status == 401


def test_the_audit_log_names_who_changed_what(control_plane: ControlPlane, api_client: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api_client)
    core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="note")))
    core.read_namespaced_config_map("note", namespace)
    core.delete_namespaced_config_map("note", namespace)

    def seen() -> list[tuple[str, str]]:
        of_configmaps = [event for event in control_plane.audit_events() if event["objectRef"]["resource"] == "configmaps"]
        return [
            (event["verb"], event["user"]["username"]) for event in of_configmaps if event["objectRef"]["namespace"] == namespace
        ]

    deadline = time.monotonic() + 30
    while len(seen()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)

    assert seen() == [("create", "admin"), ("delete", "admin")]


def test_service_accounts_get_tokens(control_plane: ControlPlane, api_client: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api_client)
    core.create_namespaced_service_account(namespace, client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="worker")))
    ask = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    requested = core.create_namespaced_service_account_token("worker", namespace, ask)

    with control_plane.client() as worker:
        worker.configuration.api_key = {"authorization": requested.status.token}
        review = client.AuthenticationV1Api(worker).create_self_subject_review(client.V1SelfSubjectReview())

    assert review.status.user_info.username == f"system:serviceaccount:{namespace}:worker"


def test_the_kubeconfig_opens_the_same_cluster(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(control_plane.kubeconfig(namespace))

    with config.new_client_from_config(str(file)) as api:
        assert client.CoreV1Api(api).read_namespace(namespace).metadata.name == namespace


def test_only_loopback_is_served(control_plane: ControlPlane) -> None:
    for server in (control_plane.etcd, control_plane.apiserver):
        sockets = psutil.Process(server.pid).net_connections("tcp")
        listening = {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}, server.name
