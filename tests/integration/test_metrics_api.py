"""The metrics API behind a real aggregator: an API server forwards to it with its front-proxy certificate."""

from __future__ import annotations

import base64
import json
import os
import secrets
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from kubernetes import client
from tests.support.cluster import model
from tests.support.hands import PLACE, eventually
from tests.support.kube.certificates import Authority, Issued
from tests.support.kube.control_plane import FRONT_PROXY, ControlPlane, running_control_plane
from tests.support.metrics_process import FarPods, MetricsProcess, running_metrics
from tests.support.operator_process import install_crds

from stillhouse.resources.metrics_api import APISERVICE, WANTED
from stillhouse.scaling.external import METRICS

ROOT = "/apis/external.metrics.k8s.io/v1beta1"
SELECTOR = "?labelSelector=stillhouse.io%2Fmodel%3Dm"


@pytest.fixture(scope="module")
def plane(binaries: dict[str, Path]) -> Iterator[ControlPlane]:
    """A control plane of its own: an APIService is one for the whole cluster."""
    with running_control_plane(binaries) as running:
        install_crds(running)
        yield running


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[client.ApiClient]:
    with plane.client() as found:
        yield found


@pytest.fixture
def place(api: client.ApiClient) -> Iterator[str]:
    name = f"test-{secrets.token_hex(4)}"
    client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
    yield name
    try:
        client.ApiregistrationV1Api(api).delete_api_service(APISERVICE)
    except client.ApiException as error:
        if error.status != 404:
            raise


@pytest.fixture
def far() -> Iterator[FarPods]:
    pods = FarPods("m")
    pods.up(0)
    yield pods
    pods.close()


@pytest.fixture
def metrics(plane: ControlPlane, place: str, far: FarPods, tmp_path: Path) -> Iterator[MetricsProcess]:
    with running_metrics(plane, tmp_path, place, pod_port=far.port) as running:
        yield running


def get(api: client.ApiClient, path: str) -> dict[str, Any]:
    headers = {"Authorization": api.configuration.get_api_key_with_prefix("authorization"), **api.default_headers}
    answer = api.rest_client.request("GET", f"{api.configuration.host}{path}", headers=headers)
    found: dict[str, Any] = json.loads(answer.read())
    return found


def available(api: client.ApiClient) -> bool:
    live = client.ApiregistrationV1Api(api).read_api_service(APISERVICE)
    conditions = (live.status.conditions if live.status else None) or []
    return any(each.type == "Available" and each.status == "True" for each in conditions)


def serving_pod(api: client.ApiClient, namespace: str, name: str, address: str, *, ready: bool = True) -> None:
    """Make a pod of model m that is ready at an address."""
    core = client.CoreV1Api(api)
    labels = {"stillhouse.io/model": "m", "app.kubernetes.io/component": "serve"}
    pod = {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": "triton", "image": "localhost/none"}]}}
    core.create_namespaced_pod(namespace, pod)
    mark_ready(api, namespace, name, address, ready=ready)


def mark_ready(api: client.ApiClient, namespace: str, name: str, address: str, *, ready: bool = True) -> None:
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    status |= {"conditions": [{"type": "Ready", "status": str(ready)}]}  # type: ignore[dict-item]
    client.CoreV1Api(api).patch_namespaced_pod_status(name, namespace, {"status": status})


def make_model(api: client.ApiClient, namespace: str) -> None:
    body = model(scale={"minReplicas": 1, "maxReplicas": 3})
    body["metadata"]["namespace"] = namespace
    client.CustomObjectsApi(api).create_namespaced_custom_object(*PLACE, namespace, "distilledmodels", body)


def test_a_value_comes_through_the_api_server(
    api: client.ApiClient, plane: ControlPlane, place: str, metrics: MetricsProcess, far: FarPods
) -> None:
    eventually(lambda: available(api))
    assert {each["name"] for each in get(api, ROOT)["resources"]} == set(METRICS)
    assert get(api, ROOT)["kind"] == "APIResourceList"
    groups = get(api, "/apis")["groups"]
    assert [each["name"] for each in groups if each["name"] == "external.metrics.k8s.io"]
    path = f"{ROOT}/namespaces/{place}/{WANTED}{SELECTOR}"
    assert get(api, path)["items"] == []
    make_model(api, place)
    far.load(140.0)
    serving_pod(api, place, "one", "127.0.1.1")

    def near(wanted: float) -> Any:
        items = get(api, path)["items"]
        if not items:
            return None
        (item,) = items
        text = item["value"]
        value = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
        return item if abs(value - wanted) < 0.2 else None

    item = eventually(lambda: near(2.0))
    assert item["metricLabels"] == {"stillhouse.io/model": "m"}
    code, told = metrics.ask(f"/signals/{place}/m")
    assert (code, "arrivalRate" in told) == (404, False), "nobody needs them here, and who asks is not known"
    far.load(35.0)
    eventually(lambda: near(0.5))
    # A pod that is gone says nothing: then there is no value, and not zero.
    far.close()
    eventually(lambda: get(api, path)["items"] == [])
    assert get(api, f"{ROOT}/namespaces/{place}/{WANTED}?labelSelector=a+in")["code"] == 400
    assert get(api, f"{ROOT}/namespaces/{place}/other")["code"] == 404
    log = plane.apiserver.log.read_text()
    assert [line for line in log.splitlines() if APISERVICE in line and "OpenAPI" in line and "failed" in line] == []


def test_a_user_needs_the_right(api: client.ApiClient, place: str, metrics: MetricsProcess) -> None:
    eventually(lambda: available(api))
    path = f"{ROOT}/namespaces/{place}/{WANTED}"
    api.set_default_header("Impersonate-User", "jane")
    assert get(api, path)["code"] == 403
    del api.default_headers["Impersonate-User"]
    rbac = client.RbacAuthorizationV1Api(api)
    rule = {"apiGroups": ["external.metrics.k8s.io"], "resources": [WANTED], "verbs": ["list"]}
    rbac.create_namespaced_role(place, {"metadata": {"name": "look"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "look"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    }
    rbac.create_namespaced_role_binding(place, binding)
    api.set_default_header("Impersonate-User", "jane")
    eventually(lambda: get(api, path).get("kind") == "ExternalMetricValueList")
    assert get(api, f"{ROOT}/namespaces/{place}/stillhouse_queue_seconds")["code"] == 403
    del api.default_headers["Impersonate-User"]


def straight(metrics: MetricsProcess, bundle: bytes, path: str, shown: Issued | None, **headers: str) -> int:
    """Ask past the API server; return the status, 0 where TLS refuses."""
    context = ssl.create_default_context(cadata=bundle.decode())
    context.check_hostname = False
    if shown:
        context.load_cert_chain(shown.certificate, shown.key)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(f"https://127.0.0.1:{metrics.port}{path}", headers=headers)
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)
    except (ssl.SSLError, OSError):
        return 0


def test_nobody_but_the_api_server_is_believed(
    api: client.ApiClient, plane: ControlPlane, place: str, metrics: MetricsProcess, tmp_path: Path
) -> None:
    eventually(lambda: available(api))
    bundle = trusted(api)
    path = f"{ROOT}/namespaces/{place}/{WANTED}"
    boss = {"X-Remote-User": "boss", "X-Remote-Group": "system:masters"}
    forwards = plane.front_proxy.client(FRONT_PROXY)
    assert straight(metrics, bundle, path, forwards, **boss) == 200
    assert straight(metrics, bundle, path, None, **boss) == 401
    assert straight(metrics, bundle, path, plane.front_proxy.client("somebody"), **boss) == 401
    assert straight(metrics, bundle, path, Authority(tmp_path / "own", "own").client(FRONT_PROXY), **boss) == 0
    assert straight(metrics, bundle, path, forwards) == 401
    assert straight(metrics, bundle, path, forwards, **{"X-Remote-User": "jane"}) == 403
    assert straight(metrics, bundle, path, None, Authorization=f"Bearer {plane.token}") == 401
    assert straight(metrics, bundle, ROOT, None) == 401
    for probe in ("/healthz", "/livez", "/readyz"):
        assert straight(metrics, bundle, probe, None) == 200


def trusted(api: client.ApiClient) -> bytes:
    return base64.b64decode(client.ApiregistrationV1Api(api).read_api_service(APISERVICE).spec.ca_bundle)


def shown(metrics: MetricsProcess) -> str:
    return ssl.get_server_certificate(("127.0.0.1", metrics.port))


def test_a_new_certificate_is_shown_without_a_restart(api: client.ApiClient, place: str, metrics: MetricsProcess) -> None:
    """What spoils or ends it has it made anew; a process beside it takes up the same one."""
    eventually(lambda: available(api))
    before, bundle = shown(metrics), trusted(api)
    core = client.CoreV1Api(api)
    core.patch_namespaced_secret("stillhouse-metrics", place, {"data": {"authority.crt": None}})
    eventually(lambda: shown(metrics) != before and trusted(api) != bundle)
    names = x509.load_pem_x509_certificate(shown(metrics).encode()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert f"stillhouse-metrics.{place}.svc" in names.value.get_values_for_type(x509.DNSName)
    eventually(lambda: get(api, f"{ROOT}/namespaces/{place}/{WANTED}").get("kind") == "ExternalMetricValueList")
    assert metrics.process.poll() is None


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_an_api_that_belongs_to_another_is_left_alone(
    first: str, api: client.ApiClient, plane: ControlPlane, place: str, far: FarPods, tmp_path: Path
) -> None:
    registry = client.ApiregistrationV1Api(api)
    spec = {"group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100}
    spec |= {"service": {"namespace": "keda", "name": "keda-operator-metrics-apiserver"}, "insecureSkipTLSVerify": True}
    body = {"metadata": {"name": APISERVICE, "labels": {"app.kubernetes.io/managed-by": "Helm"}}, "spec": spec}
    if first == "theirs":
        registry.create_api_service(body)
    with running_metrics(plane, tmp_path, place, pod_port=far.port) as metrics:
        if first == "ours":  # and then another takes it over
            registry.delete_api_service(APISERVICE)
            registry.create_api_service(body)
        before = registry.read_api_service(APISERVICE)
        eventually(lambda: "stillhouse_metrics_api_owned 0.0" in metrics.ask("/metrics")[1])
        assert "keda/keda-operator-metrics-apiserver" in metrics.log.read_text()
        assert metrics.ask(f"/signals/{place}/m")[0] == 503, "nothing is known yet"
        make_model(api, place)
        far.load(140.0)
        serving_pod(api, place, "one", "127.0.1.1")

        def signals() -> dict[str, float]:
            code, text = metrics.ask(f"/signals/{place}/m")
            found: dict[str, float] = json.loads(text) if code == 200 else {}
            return found if abs(found.get("wantedReplicas", 0.0) - 2.0) < 0.3 else {}

        told = eventually(signals)
        assert told.keys() == {"wantedReplicas", "pendingRequests", "queueSeconds", "arrivalRate", "computeUse"}
        far.close()  # who says nothing has no number, and none that is zero
        eventually(lambda: metrics.ask(f"/signals/{place}/m")[0] == 503)
        assert leave(metrics, place, tmp_path) == 0
        after = registry.read_api_service(APISERVICE)
    assert after.metadata.uid == before.metadata.uid
    assert after.spec == before.spec


def leave(metrics: MetricsProcess, place: str, folder: Path) -> int:
    """Run what the chart runs before it is uninstalled."""
    words = [sys.executable, "-m", "stillhouse.entrypoints.metrics", "unregister", f"--own-namespace={place}", "--context=test"]
    words += [f"--service-port={metrics.port}"]
    environment = {**os.environ, "KUBECONFIG": str(folder / "metrics.kubeconfig"), "NO_PROXY": "127.0.0.1"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False).returncode


def test_it_leaves_before_it_ends_and_is_not_made_again(
    api: client.ApiClient, place: str, metrics: MetricsProcess, tmp_path: Path
) -> None:
    eventually(lambda: available(api))
    assert leave(metrics, place, tmp_path) == 0
    registry = client.ApiregistrationV1Api(api)
    uids = {each.metadata.name: each.metadata.uid for each in registry.list_api_service().items}
    assert APISERVICE not in uids
    rounds = "stillhouse_scrape_rounds "
    at = [line for line in metrics.ask("/metrics")[1].splitlines() if line.startswith(rounds)]
    # Longer than it takes to look at the registration again, counted in its own rounds.
    begun = float(at[0].removeprefix(rounds))
    eventually(lambda: any(f"{rounds}{begun + more:.1f}" in metrics.ask("/metrics")[1] for more in (12, 13, 14)))
    assert APISERVICE not in [each.metadata.name for each in registry.list_api_service().items]
