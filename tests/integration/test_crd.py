"""What a real API server makes of the CRD, and whether it gives the same verdicts as the models."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client
from tests.support.api_objects import CASES, COMPLETE, GONE, Case, complete, edited, leaves
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import install_crds

from stillhouse.api.crd import PLURAL, crd
from stillhouse.api.load import parse
from stillhouse.api.model import API_VERSION, GROUP
from stillhouse.errors import SpecError

VERSION = API_VERSION.rpartition("/")[2]
PLACE = (GROUP, VERSION)


@pytest.fixture(scope="module")
def definition(control_plane: ControlPlane) -> client.V1CustomResourceDefinition:
    """The CRD as the server has it, once it is served."""
    install_crds(control_plane)
    with control_plane.client() as api:
        return client.ApiextensionsV1Api(api).read_custom_resource_definition(crd()["metadata"]["name"])


@pytest.fixture
def objects(definition: client.V1CustomResourceDefinition, api_client: client.ApiClient) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(api_client)


def as_kubectl_sends(value: Any) -> Any:
    """JSON has one kind of number: kubectl writes 2.0 as 2, Python's encoder would not."""
    if isinstance(value, dict):
        return {name: as_kubectl_sends(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_kubectl_sends(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def request(
    control_plane: ControlPlane, method: str, path: str, accept: str, content: str = "", body: Any = None
) -> dict[str, Any]:
    """Send what the client library has no call for."""
    headers = {"Authorization": f"Bearer {control_plane.token}", "Accept": accept}
    if content:
        headers["Content-Type"] = content
    data = json.dumps(body).encode() if body is not None else None
    asked = urllib.request.Request(f"{control_plane.url}{path}", data=data, headers=headers, method=method)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),  # loopback never goes through a proxy
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=control_plane.ca_file)),
    )
    with opener.open(asked, timeout=30) as answer:
        return dict(json.load(answer))


def refusal(objects: client.CustomObjectsApi, body: dict[str, Any]) -> str | None:
    """What the server has against an object, as `kubectl apply` would hear it; `None` when it accepts."""
    try:
        objects.create_namespaced_custom_object(
            *PLACE, "default", PLURAL, as_kubectl_sends(body), dry_run="All", field_validation="Strict"
        )
    except client.ApiException as answer:
        assert answer.status in {400, 422}, answer.body
        return str(json.loads(answer.body)["message"])
    return None


def test_the_schema_is_accepted_as_structural(definition: client.V1CustomResourceDefinition) -> None:
    conditions = {each.type: each for each in definition.status.conditions}

    assert "NonStructuralSchema" not in conditions
    assert conditions["NamesAccepted"].status == "True"
    assert definition.spec.preserve_unknown_fields is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_server_gives_the_verdict_of_the_models(objects: client.CustomObjectsApi, case: Case) -> None:
    message = refusal(objects, case.object)

    if case.field is None:
        assert message is None
        return
    assert message is not None
    assert case.field in message
    assert case.says in message


WRONG = [
    "",
    "x",
    "0",
    "7",
    "-1",
    "1.5",
    "ü" * 5000,
    0,
    -1,
    1,
    1.5,
    2.0,
    10**6,
    2**31,
    2**53,
    True,
    [],
    ["x"],
    [None],
    {},
    {"x": 1},
    None,
]


def mutations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of the complete objects removed, and replaced by each of `WRONG`."""
    for base, whole in COMPLETE.items():
        for path, _ in leaves({"spec": whole["spec"]}):
            if not path.endswith("]"):  # removing an item only moves the others
                yield f"{base}: no {path}", edited(complete(base), {path: GONE})
            for value in WRONG:
                yield f"{base}: {path} = {value!r:.40}", edited(complete(base), {path: value})


@pytest.mark.timeout(1200)  # some thousand objects, each asked of the API server: a minute where nothing else runs
def test_both_agree_on_every_field_with_every_wrong_value(objects: client.CustomObjectsApi) -> None:
    disagreements, tried, refused = [], 0, 0
    for name, body in mutations():
        tried += 1
        message = refusal(objects, body)
        refused += message is not None
        try:
            parse(body)
            problems = ""
        except SpecError as error:
            problems = str(error)
        if (message is None) != (problems == ""):
            disagreements.append(f"{name}\n  server: {message}\n  models: {problems or None}")

    assert not disagreements, "\n".join(disagreements[:20])
    assert tried > 3000
    assert 0.5 < refused / tried < 0.99  # a server that refuses everything would agree with nothing worth knowing


def test_unknown_fields_are_refused_under_strict_validation(objects: client.CustomObjectsApi) -> None:
    message = refusal(objects, edited(complete("text"), {"spec.gate.maxLatency": "20ms"}))

    assert message is not None
    assert 'unknown field "spec.gate.maxLatency"' in message


def test_defaults_of_the_server_are_those_of_the_models(objects: client.CustomObjectsApi, namespace: str) -> None:
    for case in (case for case in CASES if case.field is None and "status" not in case.edits):
        body = case.object
        body["metadata"]["name"] = "m"
        stored = objects.create_namespaced_custom_object(*PLACE, namespace, PLURAL, as_kubectl_sends(body))
        objects.delete_namespaced_custom_object(*PLACE, namespace, PLURAL, "m")

        from_server = parse({key: value for key, value in stored.items() if key != "status"}).spec
        assert from_server == parse(body).spec, case.name
        said = parse(body).spec.model_dump(by_alias=True, exclude_none=True, mode="json")
        assert stored["spec"] == said, case.name  # nothing is left for a reader of the stored object to fill in


@pytest.fixture
def stored(objects: client.CustomObjectsApi, namespace: str) -> Callable[..., dict[str, Any]]:
    """Creates an object in the test's namespace."""

    def create(base: str = "text", **edits: Any) -> dict[str, Any]:
        body = edited(complete(base), {path.replace("__", "."): value for path, value in edits.items()})
        return dict(objects.create_namespaced_custom_object(*PLACE, namespace, PLURAL, body))

    return create


def test_the_status_is_written_through_its_own_path(
    objects: client.CustomObjectsApi, namespace: str, stored: Callable[..., dict[str, Any]]
) -> None:
    assert "status" not in stored(status={"progress": "written by a user"})
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "Building",
        "message": "step 1 of 7",
        "lastTransitionTime": "2026-11-22T06:00:00Z",
        "observedGeneration": 1,
    }
    status = {"observedGeneration": 1, "conditions": [condition], "replicas": 2, "selector": "stillhouse.io/model=m"}
    written = objects.patch_namespaced_custom_object_status(*PLACE, namespace, PLURAL, "m", {"status": status})

    assert written["status"] == status  # no defaults: a status says what was observed
    assert written["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"status": "Maybe"}, "status.conditions[0].status"),
        ({"lastTransitionTime": "yesterday"}, "status.conditions[0].lastTransitionTime"),
        ({"reason": "not one word"}, "status.conditions[0].reason"),
    ],
)
def test_a_condition_that_is_none_is_refused(
    objects: client.CustomObjectsApi,
    namespace: str,
    stored: Callable[..., dict[str, Any]],
    change: dict[str, str],
    field: str,
) -> None:
    stored()
    condition = {"type": "Ready", "status": "True", "reason": "Serving", "lastTransitionTime": "2026-11-22T06:00:00Z"} | change

    with pytest.raises(client.ApiException) as refused:
        objects.patch_namespaced_custom_object_status(*PLACE, namespace, PLURAL, "m", {"status": {"conditions": [condition]}})

    assert field in json.loads(refused.value.body)["message"]


def test_scale_reads_and_writes_replicas_in_mode_external(
    objects: client.CustomObjectsApi, namespace: str, stored: Callable[..., dict[str, Any]]
) -> None:
    stored()
    status = {"replicas": 3, "selector": "stillhouse.io/model=m"}
    objects.patch_namespaced_custom_object_status(*PLACE, namespace, PLURAL, "m", {"status": status})

    before = objects.get_namespaced_custom_object_scale(*PLACE, namespace, PLURAL, "m")
    objects.patch_namespaced_custom_object_scale(*PLACE, namespace, PLURAL, "m", {"spec": {"replicas": 5}})
    after = objects.get_namespaced_custom_object(*PLACE, namespace, PLURAL, "m")

    assert before["spec"] == {"replicas": 3}
    assert before["status"] == {"replicas": 3, "selector": "stillhouse.io/model=m"}
    assert after["spec"]["scale"]["replicas"] == 5


def test_scale_is_refused_where_our_own_autoscaler_decides(
    objects: client.CustomObjectsApi, namespace: str, stored: Callable[..., dict[str, Any]]
) -> None:
    stored(spec__scale={"minReplicas": 1, "maxReplicas": 8})
    assert objects.get_namespaced_custom_object_scale(*PLACE, namespace, PLURAL, "m")["spec"] == {"replicas": 1}

    with pytest.raises(client.ApiException) as refused:
        objects.patch_namespaced_custom_object_scale(*PLACE, namespace, PLURAL, "m", {"spec": {"replicas": 5}})

    assert "replicas belongs to mode external" in json.loads(refused.value.body)["message"]


def test_the_order_of_labels_survives_apply(
    control_plane: ControlPlane, objects: client.CustomObjectsApi, namespace: str
) -> None:
    """Labels are a set to the server, which finds duplicates; their order is the order of the model's outputs."""
    for labels in (["b", "a", "c"], ["c", "b", "a"], ["a", "d", "c"]):
        body = edited(complete("class"), {"spec.source.labels": labels})
        request(
            control_plane,
            "PATCH",
            f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/m?fieldManager=test&force=true",
            "application/json",
            "application/apply-patch+yaml",
            body,
        )
        assert objects.get_namespaced_custom_object(*PLACE, namespace, PLURAL, "m")["spec"]["source"]["labels"] == labels


def test_a_table_shows_what_matters_first(
    control_plane: ControlPlane, namespace: str, stored: Callable[..., dict[str, Any]]
) -> None:
    stored()
    table = request(
        control_plane,
        "GET",
        f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}",
        "application/json;as=Table;g=meta.k8s.io;v=v1",
    )

    always = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0]
    wide = [column["name"] for column in table["columnDefinitions"] if column["priority"] == 1]
    assert always == ["Name", "Precision", "Gate", "Size", "Replicas", "Available", "Ready", "Status", "Age", "Progress"]
    assert wide == ["Pin", "Revision", "Digest", "Endpoint"]


def test_the_short_name_and_the_category_are_known(
    api_client: client.ApiClient, definition: client.V1CustomResourceDefinition
) -> None:
    resources = client.CustomObjectsApi(api_client).get_api_resources(*PLACE).resources
    found = {each.name: each for each in resources}

    assert found[PLURAL].short_names == ["dm"]
    assert found[PLURAL].categories == ["stillhouse"]
    assert {f"{PLURAL}/status", f"{PLURAL}/scale"} <= found.keys()
