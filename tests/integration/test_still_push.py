"""`still push` to a bucket and a registry: uploaded once, bound for the operator, and nobody else's bindings are touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.support.cli import Project
from tests.support.hands import Hands, eventually
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import install_crds, running_operator
from tests.support.source_servers import Registry, Store, running_registry, running_store

Push = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_store(tmp_path_factory.mktemp("store"), "integration") as running:
        (running.root / "models").mkdir()
        yield running


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry"), tier="integration") as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A model whose sources have names, as one has that is to go to a cluster."""
    made = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create()
    body = yaml.safe_load(made.file.read_text())
    binding = made.folder / "stillhouse.yaml"
    names = yaml.safe_load(binding.read_text())
    for place in ("gate", "index"):
        names["sources"][f"data:{place}"] = body["spec"][place]["data"]["uri"]
        body["spec"][place]["data"]["uri"] = f"data:{place}"
    made.file.write_text(yaml.safe_dump(body))
    binding.write_text(yaml.safe_dump(names))
    return made


@pytest.fixture
def push(control_plane: ControlPlane, project: Project, store: Store, namespace: str, tmp_path: Path) -> Push:
    kubeconfig = tmp_path / "user.kubeconfig"
    kubeconfig.write_text(control_plane.kubeconfig())

    def run(to: str, *words: str, context: str = "test") -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "stillhouse.entrypoints.cli", "push", str(project.file), "--to", to, *words]
        line += ["--context", context, "-n", namespace]
        environment = {
            **os.environ,
            **store.environment(),
            "KUBECONFIG": str(kubeconfig),
            "NO_PROXY": "127.0.0.1",
            "DOCKER_CONFIG": str(tmp_path),
            "STILLHOUSE_HOME": str(tmp_path / "home"),
            "XDG_CACHE_HOME": str(tmp_path / "xdg"),
        }
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=120)

    return run


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_a_laptop_has_reaches_the_operator(
    push: Push,
    project: Project,
    store: Store,
    control_plane: ControlPlane,
    api_client: client.ApiClient,
    namespace: str,
    tmp_path: Path,
) -> None:
    install_crds(control_plane)
    hands = Hands(api_client, namespace)
    body = yaml.safe_load(project.file.read_text())
    name = body["metadata"]["name"]
    with running_operator(control_plane, tmp_path / "operator", namespace=namespace, lease_namespace=namespace):
        hands.apply(body)
        eventually(lambda: hands.condition("Accepted", name) == ("False", "SourceUnusable"))
        first = told(push("s3://models/team", "-o", "json"))
        assert {each["name"] for each in first["sources"]} == {"models:tiny", "data:gate", "data:index"}
        assert all(each["size"] >= each["sent"] > 0 for each in first["sources"]), "what gets smaller travels compressed"
        assert first["changed"] is True
        eventually(lambda: hands.condition("Accepted", name)[0] == "True")
        job = eventually(lambda: hands.jobs().get("resolve"))
        environment = {each.name: each.value for each in job.spec.template.spec.containers[0].env}
        assert json.loads(environment["STILLHOUSE_SOURCES"]) == {each["name"]: each["uri"] for each in first["sources"]}
    again = told(push("s3://models/team", "-o", "json"))
    assert [each["sent"] for each in again["sources"]] == [0, 0, 0], "what is there is not sent again"
    assert again["changed"] is False
    text = push("s3://models/team")
    assert "already there" in text.stdout
    assert "3 already bound in ConfigMap stillhouse-sources" in text.stdout
    assert f"next: kubectl apply -f {project.file} -n {namespace} --context test" in text.stdout


def test_bindings_of_others_stay(
    push: Push, registry: Registry, api_client: client.ApiClient, namespace: str, project: Project
) -> None:
    core = client.CoreV1Api(api_client)
    theirs = {"metadata": {"name": "stillhouse-sources"}, "data": {"models.theirs": "pvc://c/theirs", "data.gate": "pvc://c/old"}}
    core.create_namespaced_config_map(namespace, theirs)
    first = told(push(f"oci://{registry.host}/team/sources", "-o", "json"))

    def bound() -> Any:
        return core.read_namespaced_config_map("stillhouse-sources", namespace)

    uris = {each["name"].replace(":", "."): each["uri"] for each in first["sources"]}
    assert bound().data == {"models.theirs": "pvc://c/theirs", **uris}
    assert bound().metadata.labels == {"stillhouse.io/sources": "bindings"}
    # Another file binds another name: what the first push bound stays.
    body = yaml.safe_load(project.file.read_text())
    names = yaml.safe_load((project.folder / "stillhouse.yaml").read_text())
    body["spec"]["gate"]["data"]["uri"] = "data:other"
    names["sources"]["data:other"] = names["sources"]["data:gate"]
    project.file.write_text(yaml.safe_dump(body))
    (project.folder / "stillhouse.yaml").write_text(yaml.safe_dump(names))
    second = told(push(f"oci://{registry.host}/team/sources", "-o", "json"))
    assert sum(each["sent"] for each in second["sources"]) == 0, "the same contents under another name"
    assert bound().data == {"models.theirs": "pvc://c/theirs", **uris, "data.other": uris["data.gate"]}


def test_what_cannot_be_pushed_is_told_before_anything_is_sent(push: Push, project: Project, store: Store) -> None:
    before = sorted(store.root.rglob("*"))
    for to in ("gs://bucket", "models", "https://host/x"):
        wrong = push(to)
        assert (wrong.returncode, "--to" in wrong.stderr) == (2, True), wrong.stderr
    nowhere = push("s3://models/x", context="no-such-context")
    assert nowhere.returncode == 2, nowhere.stderr
    body = yaml.safe_load(project.file.read_text())
    names = yaml.safe_load((project.folder / "stillhouse.yaml").read_text())
    body["spec"]["gate"]["data"]["uri"] = names["sources"]["data:gate"]
    project.file.write_text(yaml.safe_dump(body))
    bare = push("s3://models/x")
    assert bare.returncode == 2
    assert "spec.gate.data.uri" in bare.stderr
    assert "models:NAME or data:NAME" in bare.stderr
    assert sorted(store.root.rglob("*")) == before


def test_the_pod_of_a_claim_is_restricted_and_goes_again(
    push: Push, api_client: client.ApiClient, namespace: str, tmp_path: Path
) -> None:
    core = client.CoreV1Api(api_client)
    core.patch_namespace(namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    claim = {"spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}}
    core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": "models"}, **claim})
    unknown = push("pvc://models")
    assert unknown.returncode == 2, unknown.stderr
    assert "--image" in unknown.stderr
    seen: list[Any] = []

    def kubelet() -> None:
        """Say of the push's pod what a kubelet says that finds no image."""
        pod = eventually(lambda: core.list_namespaced_pod(namespace).items)[0]
        seen.append(pod)
        waiting = {"reason": "ErrImagePull", "message": "localhost/none: not found"}
        told = {"name": "push", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": {"waiting": waiting}}
        core.patch_namespaced_pod_status(
            pod.metadata.name, namespace, {"status": {"phase": "Pending", "containerStatuses": [told]}}
        )

    with ThreadPoolExecutor() as pool:
        watching = pool.submit(kubelet)
        failed = push("pvc://models/team", "--image", "localhost/none")
        watching.result()
    assert failed.returncode == 5, failed.stderr
    assert "ErrImagePull: localhost/none: not found" in failed.stderr
    assert seen[0].spec.volumes[0].persistent_volume_claim.claim_name == "models"
    # No kubelet confirms that it has ended, so the server keeps it, marked.
    left = core.list_namespaced_pod(namespace).items
    assert all(pod.metadata.deletion_timestamp for pod in left)
    with pytest.raises(client.ApiException, match="NotFound"):
        core.read_namespaced_config_map("stillhouse-sources", namespace)
