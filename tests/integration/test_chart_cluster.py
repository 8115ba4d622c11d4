"""The chart in an API server: what it renders is accepted, an upgrade changes the CRDs, and the roles are enough and no more.

No controller and no kubelet runs, so nobody waits for pods: the operator's process stands for its pod, with the account's token.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from kubernetes import client
from tests.integration.test_metrics_api import straight, trusted
from tests.support.cluster import SOURCES, model
from tests.support.hands import PLACE, Hands, eventually
from tests.support.helm import CHART, Helm
from tests.support.hooks import account_token, uninstall
from tests.support.kube.control_plane import FRONT_PROXY, ControlPlane, running_control_plane
from tests.support.metrics_process import running_metrics
from tests.support.operator_process import running_operator

from stillhouse.resources.labels import CREDENTIALS
from stillhouse.resources.metrics_api import APISERVICE

GOLDEN = Path(__file__).parent / "golden"
SETS = sorted(path.name.removesuffix(".values.yaml") for path in GOLDEN.glob("*.values.yaml"))

# Reads too, of accounts: what the operator asks for is what its roles are compared with.
_AUDIT = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
"""


def definition(group: str, version: str, kind: str) -> dict[str, Any]:
    """A kind that some clusters have, of any shape."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": f"{kind.lower()}s", "singular": kind.lower(), "kind": kind}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
    }


MONITORS = definition("monitoring.coreos.com", "v1", "ServiceMonitor")
"""Clusters with Prometheus."""
SCALED = definition("keda.sh", "v1alpha1", "ScaledObject")
"""Clusters with KEDA."""


Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""

RACES: set[Right] = {("batch", "jobs", "get"), ("stillhouse.io", "modelrevisions", "get")}
"""Asked for after a 409 only: another operator was faster."""
APART: set[Right] = {("", "persistentvolumeclaims", "get")}
"""Asked for where pods of one model are on several nodes and one waits (test_operator.py): there are no nodes here."""
UNSEEN: set[Right] = {
    ("stillhouse.io", "distilledmodels/finalizers", "update"),
    ("rbac.authorization.k8s.io", "clusterroles", "bind"),
    ("rbac.authorization.k8s.io", "roles", "bind"),
}
"""Checked while something else is asked for, never a request: without the first an admission plugin refuses every child (see
`cluster`), without the other two the RoleBinding of a gateway is refused."""
SERVING = {
    "serviceaccounts", "services", "deployments", "horizontalpodautoscalers", "networkpolicies", "poddisruptionbudgets",
    "servicemonitors", "scaledobjects", "daemonsets", "rolebindings",
}  # fmt: skip
"""Written and removed by one code for all: a verb that one of them needs, each may need."""


@pytest.fixture(scope="module")
def cluster(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server of its own: Helm owns the CRDs here, and owner references are checked as on OpenShift."""
    policy = tmp_path_factory.mktemp("audit") / "policy.yaml"
    policy.write_text(_AUDIT)
    flags = [f"--audit-policy-file={policy}", "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"]
    with running_control_plane(binaries, flags) as running:
        with running.client() as api:
            for each in (MONITORS, SCALED):
                client.ApiextensionsV1Api(api).create_custom_resource_definition(each)
            for place in (("monitoring.coreos.com", "v1", "servicemonitors"), ("keda.sh", "v1alpha1", "scaledobjects")):
                wait_for_kind(api, *place)
        yield running


@pytest.fixture
def api(cluster: ControlPlane) -> Iterator[client.ApiClient]:
    with cluster.client() as found:
        yield found


@pytest.fixture
def place(api: client.ApiClient) -> str:
    return new_namespace(api)


@pytest.fixture
def chart(helm: Path, cluster: ControlPlane, tmp_path: Path) -> Helm:
    return Helm(helm, tmp_path / "helm", cluster.kubeconfig())


def new_namespace(api: client.ApiClient, prefix: str = "test", **labels: str) -> str:
    name = f"{prefix}-{secrets.token_hex(4)}"
    client.CoreV1Api(api).create_namespace({"metadata": {"name": name, "labels": labels}})
    return name


def send(api: client.ApiClient, method: str, path: str, text: str | None = None) -> dict[str, Any]:
    headers = {"Authorization": api.configuration.get_api_key_with_prefix("authorization")}
    if text is not None:
        headers["Content-Type"] = "application/apply-patch+yaml"
    answer = api.rest_client.request(method, f"{api.configuration.host}{path}", headers=headers, body=text)
    told = answer.read()
    if answer.status >= 300:
        raise client.ApiException(status=answer.status, reason=told.decode())
    found: dict[str, Any] = json.loads(told)
    return found


def wait_for_kinds(api: client.ApiClient) -> None:
    """Until the server serves CRDs that Helm has just made."""
    for plural in ("distilledmodels", "modelrevisions"):
        wait_for_kind(api, *PLACE, plural)


def wait_for_kind(api: client.ApiClient, *place: str) -> None:
    """Until a new kind is served: the server answers 404 first, then 429."""

    def served() -> bool:
        try:
            client.CustomObjectsApi(api).list_cluster_custom_object(*place)
        except client.ApiException as error:
            if error.status not in (404, 429):
                raise
            return False
        return True

    eventually(served)


def try_to_apply(api: client.ApiClient, body: dict[str, Any]) -> dict[str, Any]:
    """Ask the server what an apply would give, strictly: an unknown field is a mistake."""
    version = body["apiVersion"]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    kinds = {each["kind"]: each for each in send(api, "GET", root)["resources"] if "/" not in each["name"]}
    found = kinds[body["kind"]]
    space = f"/namespaces/{body['metadata']['namespace']}" if found["namespaced"] else ""
    query = urlencode({"dryRun": "All", "fieldManager": "test", "force": "true", "fieldValidation": "Strict"})
    path = f"{root}{space}/{found['name']}/{body['metadata']['name']}?{query}"
    return send(api, "PATCH", path, json.dumps(body))


@pytest.mark.parametrize("name", SETS)
def test_the_api_server_accepts_every_object(name: str, api: client.ApiClient, chart: Helm) -> None:
    objects = chart.objects(GOLDEN / f"{name}.values.yaml")
    for space in {each["metadata"].get("namespace") for each in objects} - {None}:
        try:
            client.CoreV1Api(api).create_namespace({"metadata": {"name": space}})
        except client.ApiException as error:
            if error.status != 409:
                raise
    for body in objects:
        answer = try_to_apply(api, body)
        assert answer["kind"] == body["kind"]


@pytest.mark.parametrize("name", SETS)
def test_its_pods_are_allowed_where_pod_security_is_restricted(name: str, api: client.ApiClient, chart: Helm) -> None:
    space = new_namespace(api, **{"pod-security.kubernetes.io/enforce": "restricted"})
    objects = chart.objects(GOLDEN / f"{name}.values.yaml")
    pods = [each["spec"]["template"]["spec"] for each in objects if each["kind"] == "Deployment"]
    pods += [each["spec"] for each in objects if each["kind"] == "Pod"]
    pods += [each["spec"]["template"]["spec"] for each in objects if each["kind"] == "Job"]
    assert len(pods) == (2 if name == "namespaced" else 4)
    for spec in pods:
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "it", "namespace": space}, "spec": spec}
        try_to_apply(api, body)
    privileged = {**pods[0], "securityContext": {}}
    with pytest.raises(client.ApiException, match="violates PodSecurity"):
        try_to_apply(api, {**body, "spec": privileged})


def test_an_upgrade_changes_the_crds_and_uninstalling_keeps_them(
    api: client.ApiClient, cluster: ControlPlane, place: str, chart: Helm, tmp_path: Path
) -> None:
    definitions = client.ApiextensionsV1Api(api)
    objects = client.CustomObjectsApi(api)

    def described() -> str:
        live = definitions.read_custom_resource_definition("distilledmodels.stillhouse.io")
        return str(live.spec.versions[0].schema.open_apiv3_schema.description)

    told = chart.do("install", "stillhouse", str(CHART), "--namespace", place)
    assert f"kubectl -n {place} rollout status deployment/stillhouse-operator" in told
    assert "stillhouse-edit, which is bound to nobody" in told
    before = described()
    wait_for_kinds(api)
    Hands(api, place).apply(model())

    newer = tmp_path / "newer"
    shutil.copytree(CHART, newer)
    file = newer / "files" / "crds" / "stillhouse.io_distilledmodels.yaml"
    changed = yaml.safe_load(file.read_text())
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "Newer."
    file.write_text(yaml.safe_dump(changed))
    chart.do("upgrade", "stillhouse", str(newer), "--namespace", place)
    assert described() == "Newer."
    chart.do("rollback", "stillhouse", "1", "--namespace", place)
    assert described() == before

    uninstall(chart, cluster, "stillhouse", place, tmp_path)
    assert client.AppsV1Api(api).list_namespaced_deployment(place).items == []
    assert described() == before
    assert objects.get_namespaced_custom_object(*PLACE, place, "distilledmodels", "m")["spec"]

    another = chart.run("install", "another", str(CHART), "--namespace", place)
    assert another.returncode != 0
    assert "cannot be imported into the current release" in another.stderr
    chart.do("install", "another", str(CHART), "--namespace", place, "--take-ownership")
    uninstall(chart, cluster, "another", place, tmp_path)
    chart.do("install", "stillhouse", str(CHART), "--namespace", place, "--take-ownership")
    chart.do("upgrade", "stillhouse", str(CHART), "--namespace", place, "--set", "crds.install=false")
    assert described() == before
    uninstall(chart, cluster, "stillhouse", place, tmp_path)


def granted(api: client.ApiClient, account: str, place: str) -> set[Right]:
    """What the server's roles give an account."""
    rbac = client.RbacAuthorizationV1Api(api)

    def is_it(binding: Any) -> bool:
        return any((each.name, each.namespace) == (account, place) for each in binding.subjects or [])

    rules = [
        rule
        for binding in rbac.list_cluster_role_binding().items
        if is_it(binding)
        for rule in rbac.read_cluster_role(binding.role_ref.name).rules
    ]
    for binding in rbac.list_role_binding_for_all_namespaces().items:
        if is_it(binding):
            rules += rbac.read_namespaced_role(binding.role_ref.name, binding.metadata.namespace).rules
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule.api_groups
        for resource in rule.resources
        for verb in rule.verbs
    }


@pytest.mark.parametrize("watched", ["one namespace", "the whole cluster"])
def test_the_roles_are_enough_and_no_more(
    watched: str, api: client.ApiClient, cluster: ControlPlane, place: str, chart: Helm, tmp_path: Path
) -> None:
    """A life of a model under the account of the chart: built, served, mended, handed to another autoscaler, put behind gateways
    and back, built again until a revision is forgotten; and `helm test`."""
    models = new_namespace(api, "models")
    words = ["--set", f"watchNamespace={models}"] if watched == "one namespace" else []
    chart.do("install", "stillhouse", str(CHART), "--namespace", place, "--take-ownership", *words)
    wait_for_kinds(api)
    user = f"system:serviceaccount:{place}:stillhouse-operator"
    kubeconfig = cluster.kubeconfig(token=account_token(api, place, "stillhouse-operator"))
    settings = client.CoreV1Api(api).read_namespaced_config_map("stillhouse-operator", place).data["settings.json"]
    hands = Hands(api, models)
    with running_operator(
        cluster,
        tmp_path,
        namespace=models if words else "",
        lease_namespace=place,
        kubeconfig_text=kubeconfig,
        settings={**json.loads(settings), "sources": SOURCES},
    ) as operator:
        hands.core.create_namespaced_secret(models, {"metadata": {"name": "keys", "labels": {CREDENTIALS: "true"}}})
        with_keys = {"credentials": [{"secret": "keys", "for": "s3://models"}]}
        hands.apply(model(**with_keys))
        hands.build()
        hands.roll()
        eventually(lambda: hands.condition("Ready") == ("True", "Serving"))
        hands.core.patch_namespaced_service("m", models, {"spec": {"selector": {"stillhouse.io/model": "another"}}})
        eventually(lambda: hands.core.read_namespaced_service("m", models).spec.selector["stillhouse.io/model"] == "m")
        scalers = client.AutoscalingV2Api(api)
        eventually(lambda: scalers.list_namespaced_horizontal_pod_autoscaler(models).items)
        hands.apply(model(scale={"mode": "external", "replicas": 2}, **with_keys))
        eventually(lambda: not scalers.list_namespaced_horizontal_pod_autoscaler(models).items)
        monitors = ("monitoring.coreos.com", "v1", models, "servicemonitors")
        assert [each["metadata"]["name"] for each in hands.objects.list_namespaced_custom_object(*monitors)["items"]] == [
            "m-main"
        ]
        hands.apply(model(edge={"clients": {"tokens": "keys"}}, **with_keys))
        hands.roll("m-main-gateway")
        eventually(lambda: hands.condition("GatewayAvailable") == ("True", "GatewayServes"))
        accounts = client.RbacAuthorizationV1Api(api).read_namespaced_role_binding("m-main-gateway", models)
        assert accounts.role_ref.name == "stillhouse-gateway"
        hands.apply(model(edge={"run": {"kind": "DaemonSet"}}, **with_keys))
        eventually(lambda: hands.apps.list_namespaced_daemon_set(models).items)
        hands.apply(model(**with_keys))
        eventually(lambda: not hands.apps.list_namespaced_daemon_set(models).items)
        eventually(lambda: [each.metadata.name for each in hands.apps.list_namespaced_deployment(models).items] == ["m-main"])
        hands.build_again(batch=2, limit=1)
        hands.build_again(batch=3, limit=1)
        eventually(lambda: len(hands.revisions()) == 2)
        check(api, cluster, place, chart, operator.port, tmp_path)
        log = operator.log.read_text()
    assert "forbidden" not in log.lower()
    assert not [each for each in operator.records() if each["level"] in ("WARNING", "ERROR", "CRITICAL")]

    used = asked_for(cluster, user)
    given = granted(api, "stillhouse-operator", place)
    assert used <= given
    verbs = {verb for _, resource, verb in used if resource in SERVING}
    idle = {right for right in given - used - RACES - APART - UNSEEN if right[1] not in SERVING or right[2] not in verbs}
    assert not idle
    if words:  # no metrics API, and nothing to do before
        chart.do("uninstall", "stillhouse", "--namespace", place)
    else:
        uninstall(chart, cluster, "stillhouse", place, tmp_path)


def asked_for(cluster: ControlPlane, user: str) -> set[Right]:
    """Return what an account has asked for; nothing of it was refused."""
    time.sleep(1.0)  # an event is in the log about when its answer is sent
    used: set[Right] = set()
    for event in cluster.audit_events():
        if event["user"]["username"] != user or "objectRef" not in event:
            continue
        target = event["objectRef"]
        resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
        used.add((target.get("apiGroup", ""), resource, event["verb"]))
        assert event["responseStatus"].get("code") not in (401, 403), event
    return used


@pytest.mark.parametrize("watched", ["one namespace", "the whole cluster"])
def test_the_metrics_api_has_the_rights_that_it_needs_and_leaves_first(
    watched: str, api: client.ApiClient, cluster: ControlPlane, place: str, chart: Helm, tmp_path: Path
) -> None:
    """Its whole life: registered, asked, its certificate made anew, removed before anything else of the release."""
    models = new_namespace(api, "models")
    words = ["--set", f"watchNamespace={models},metricsAPI.enabled=true"] if watched == "one namespace" else []
    chart.do("install", "stillhouse", str(CHART), "--namespace", place, "--take-ownership", *words)
    wait_for_kinds(api)
    kubeconfig = cluster.kubeconfig(token=account_token(api, place, "stillhouse-metrics"))
    given = granted(api, "stillhouse-metrics", place)
    registry, core = client.ApiregistrationV1Api(api), client.CoreV1Api(api)
    told: dict[str, tuple[bool, list[str]]] = {}

    def seen(when: str) -> None:
        apis = {each.metadata.name for each in registry.list_api_service().items}
        parts = [*core.list_namespaced_service(place).items, *client.AppsV1Api(api).list_namespaced_deployment(place).items]
        told[when] = APISERVICE in apis, sorted(each.metadata.name for each in parts)

    watching = {"kubeconfig_text": kubeconfig, "models": models if words else ""}
    with running_metrics(cluster, tmp_path, place, service_port=443, **watching) as metrics:
        bundle = trusted(api)
        path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{models}/stillhouse_wanted_replicas"
        forwards = cluster.front_proxy.client(FRONT_PROXY)
        assert straight(metrics, bundle, path, forwards, **{"X-Remote-User": "boss", "X-Remote-Group": "system:masters"}) == 200
        core.patch_namespaced_secret("stillhouse-metrics", place, {"data": {"authority.crt": None}})
        eventually(lambda: trusted(api) != bundle)
        uninstall(chart, cluster, "stillhouse", place, tmp_path, seen)
        assert "forbidden" not in metrics.log.read_text().lower()
    parts = sorted(["stillhouse-metrics", "stillhouse-operator"] * 2)
    assert told == {"before": (True, parts), "after": (False, parts)}
    assert asked_for(cluster, f"system:serviceaccount:{place}:stillhouse-metrics") == given


def test_what_a_metrics_api_left_goes_when_it_is_turned_off(
    api: client.ApiClient, cluster: ControlPlane, place: str, chart: Helm, tmp_path: Path
) -> None:
    chart.do("install", "stillhouse", str(CHART), "--namespace", place, "--take-ownership")
    wait_for_kinds(api)
    registry = client.ApiregistrationV1Api(api)
    with running_metrics(cluster, tmp_path, place, service_port=443):
        assert registry.read_api_service(APISERVICE).spec.service.namespace == place
    chart.do("upgrade", "stillhouse", str(CHART), "--namespace", place, "--set", "metricsAPI.enabled=false")
    assert [each.metadata.name for each in client.AppsV1Api(api).list_namespaced_deployment(place).items] == [
        "stillhouse-operator"
    ]
    kubeconfig = cluster.kubeconfig(token=account_token(api, place, "stillhouse-operator"))
    settings = client.CoreV1Api(api).read_namespaced_config_map("stillhouse-operator", place).data["settings.json"]
    given = {"kubeconfig_text": kubeconfig, "settings": json.loads(settings)}
    with running_operator(cluster, tmp_path, lease_namespace=place, **given):
        eventually(lambda: APISERVICE not in {each.metadata.name for each in registry.list_api_service().items})
    assert ("apiregistration.k8s.io", "apiservices", "delete") in asked_for(
        cluster, f"system:serviceaccount:{place}:stillhouse-operator"
    )
    chart.do("uninstall", "stillhouse", "--namespace", place)


def check(api: client.ApiClient, cluster: ControlPlane, place: str, chart: Helm, port: int, folder: Path) -> None:
    """Run what `helm test` runs in its pod, under an account without rights."""
    hooks = [each for each in yaml.safe_load_all(chart.do("get", "hooks", "stillhouse", "--namespace", place)) if each]
    (pod,) = [each for each in hooks if each["kind"] == "Pod"]
    container = pod["spec"]["containers"][0]
    assert container["command"] == ["python3", "-c"]
    assert container["env"][0]["value"] == f"http://stillhouse-operator.{place}.svc:8080/readyz"
    (account,) = [each for each in hooks if each["kind"] == "ServiceAccount"]
    assert account["metadata"]["name"] == pod["spec"]["serviceAccountName"]
    client.CoreV1Api(api).create_namespaced_service_account(place, account)
    files = folder / "account"
    files.mkdir()
    (files / "token").write_text(account_token(api, place, account["metadata"]["name"]))
    (files / "ca.crt").write_text(cluster.ca_file.read_text())

    def run(target: int) -> subprocess.CompletedProcess[str]:
        places = {"API_URL": cluster.url, "READY_URL": f"http://127.0.0.1:{target}/readyz", "ACCOUNT": str(files)}
        words = [sys.executable, "-I", "-c", *container["args"]]
        return subprocess.run(
            words, env={**os.environ, **places, "PATIENCE_S": "1"}, capture_output=True, text=True, check=False, timeout=60
        )

    well = run(port)
    assert (well.returncode, well.stdout) == (0, "CRDs: ok\noperator: ok\n"), well.stderr
    ill = run(1)
    assert ill.returncode == 1
    assert "operator: URLError" in ill.stdout
