"""Fixtures of the cluster tier: two real nodes, our images on them, the chart installed; a namespace per test.

With `STILLHOUSE_CLUSTER=play` the cluster of `make cluster` is taken, which saves its start while a test is written; whoever
changed the source in between starts it anew, since its images are those of then.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import yaml
from kubernetes import client
from tests.support.helm import CHART, Helm
from tests.support.kube.binaries import Unavailable, provide
from tests.support.kube.process import StartFailed
from tests.support.nodes import images
from tests.support.nodes.cluster import PROGRAMS, Cluster, play, running_cluster
from tests.support.nodes.commands import CommandFailed
from tests.support.nodes.models import Models
from tests.support.nodes.needs import lacking
from tests.support.tiers import require

RELEASE = "stillhouse"
SPACE = "stillhouse"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Time this tier's tests without their fixtures: whichever comes first builds images, for minutes."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(600, func_only=True))


@pytest.fixture(scope="session")
def built(pytestconfig: pytest.Config) -> tuple[dict[str, Path], Path]:
    """The programs of a cluster, and the archive of our images: both are made where they are not there, and say so meanwhile."""
    reason = lacking()
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    try:
        if not reason:
            with capture.global_and_fixture_disabled() if capture else nullcontext():
                return provide(PROGRAMS), images.ours()
    except (Unavailable, CommandFailed) as why:
        reason = str(why)
    require("cluster", reason)
    raise AssertionError("require has ended this")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Two nodes with our images. Containers find the packages for training in this environment's own, mounted read-only."""
    if not lacking() and os.environ.get("STILLHOUSE_CLUSTER") == "play":
        yield play()
        return
    programs, archive = request.getfixturevalue("built")
    mounts = {images.TRAINING: images.training()}
    with running_cluster(programs, nodes=2, mounts=mounts, archives=[archive]) as running:
        yield running


@pytest.fixture(scope="session")
def helm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The real Helm, with the administrator's access."""
    return Helm(provide(("helm",))["helm"], tmp_path_factory.mktemp("helm"), cluster.kubeconfig.read_text())


@pytest.fixture(scope="session")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The values of the release: our images, builds that leave the other node's CPU alone."""
    file = tmp_path_factory.mktemp("values") / "values.yaml"
    file.write_text(yaml.safe_dump({**images.values(), "scaling": {"scaleDownAfterSeconds": 15}}))
    return file


@pytest.fixture(scope="session")
def release(helm: Helm, cluster: Cluster, values: Path) -> str:
    """The chart, installed; its pods are ready."""
    words = ["--namespace", SPACE, "--create-namespace", "--values", str(values), "--wait", "--timeout", "100s"]
    ended = helm.run("upgrade", "--install", RELEASE, str(CHART), *words)
    if ended.returncode != 0:
        raise StartFailed(f"helm: {ended.stderr}\n{cluster.story(SPACE)}")
    return RELEASE


@pytest.fixture
def models(cluster: Cluster, release: str) -> Iterator[Models]:
    """A namespace under Pod Security *restricted* with a claim for the store, and what a user does in it."""
    with _namespace(cluster) as made:
        yield made


@pytest.fixture
def others(cluster: Cluster, release: str) -> Iterator[Models]:
    """Another such namespace: somebody else's."""
    with _namespace(cluster) as made:
        yield made


@pytest.fixture(scope="module")
def shared(cluster: Cluster, release: str) -> Iterator[Models]:
    """The same for all tests of a module, which then build one model for all."""
    with _namespace(cluster) as made:
        yield made


@contextmanager
def _namespace(cluster: Cluster) -> Iterator[Models]:
    name = f"test-{secrets.token_hex(4)}"
    with cluster.client() as api:
        core = client.CoreV1Api(api)
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name, labels=labels)))
        try:
            yield Models(cluster, api, name)
        finally:
            core.delete_namespace(name)
            # Serving pods would take their time, and with it CPUs that the next test counts on.
            core.delete_collection_namespaced_pod(name, grace_period_seconds=0)
