"""A gateway before a model on real nodes: clients come to it and go from it, and none of their requests fails."""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.test_life import project
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim

_READ = "import sys, urllib.request as u; print(u.urlopen(f'http://{sys.argv[1]}:8002/metrics', timeout=10).read().decode())"
_SMALL = {"limits": {"cpu": "250m", "memory": "256Mi"}}


def answered(models: Models, pod: Any) -> float:
    """Return how many inferences a gateway's pod has answered; its own node may read that."""
    node = int(pod.spec.node_name.removeprefix("node"))
    text = models.cluster.run(sys.executable, "-c", _READ, pod.status.pod_ip, number=node)
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if 'inferences_total{code="OK"' in line)


@pytest.fixture
def serving(models: Models, tmp_path: Path) -> dict[str, Any]:
    body = on_claim(models, project(tmp_path).create())
    models.apply(body)
    models.wait_ready(body["metadata"]["name"], 300)
    return body


def test_clients_go_to_the_gateway_and_back_without_a_failed_request(models: Models, serving: dict[str, Any]) -> None:
    name = serving["metadata"]["name"]
    digest = models.status(name)["revision"]["digest"]
    asking = models.asking(name, "--threads", "2", "--requests", "0", "--pause", "0.05")
    begun = time.monotonic()

    with_gateway = copy.deepcopy(serving)
    with_gateway["spec"]["edge"] = {"rest": False, "run": {"resources": _SMALL}}
    models.apply(with_gateway)
    models.eventually(lambda: models.condition(name, "GatewayAvailable")[0] == "True", 120, about=name)
    pods = models.pods(name, "gateway")
    assert len(pods) == 2
    print(f"gateway there: {time.monotonic() - begun:.1f}")
    models.eventually(
        lambda: min(answered(models, pod) for pod in pods) > 20, 60, about=name
    )  # clients look for addresses by and by
    print(f"clients there: {time.monotonic() - begun:.1f}")

    models.apply(serving)
    models.eventually(lambda: models.condition(name, "GatewayAvailable") == ("False", "GatewayLeaving"), 30, about=name)
    models.eventually(lambda: not models.pods(name, "gateway", ending=True), 120, about=name)
    models.eventually(lambda: models.condition(name, "GatewayAvailable") == ("", ""), 30, about=name)
    print(f"gateway gone: {time.monotonic() - begun:.1f}")
    assert models.condition(name, "Ready") == ("True", "Serving")
    left = models.core.list_namespaced_service_account(models.namespace).items
    assert f"{name}-main-gateway" not in {each.metadata.name for each in left}
    asking.terminate()
    answers = json.loads(asking.communicate(timeout=60)[0])
    print(answers)
    assert set(answers["digests"]) == {digest} and not answers["failures"], answers
