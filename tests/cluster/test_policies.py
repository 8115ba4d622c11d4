"""NetworkPolicies, really enforced: who reaches a serving pod, and what a serving pod reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.cli import Project
from tests.support.nodes import images
from tests.support.nodes.models import Models
from tests.support.nodes.projects import on_claim

_TRY = """
import socket, sys
for place in sys.argv[1:]:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
        print(place, "open")
    except OSError as error:
        print(place, "shut")
"""


def tried(models: Models, name: str, *places: str) -> dict[str, str]:
    """Return which places a new pod of the namespace reaches."""
    body: dict[str, Any] = {
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "try",
                    "image": images.NAMES["operator"],
                    "imagePullPolicy": "Never",
                    "command": ["/opt/stillhouse/bin/python", "-c", _TRY, *places],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    models.core.create_namespaced_pod(models.namespace, body)
    models.eventually(lambda: models.core.read_namespaced_pod(name, models.namespace).status.phase == "Succeeded")
    lines = models.core.read_namespaced_pod_log(name, models.namespace).splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}


def test_grpc_is_open_metrics_are_not_and_a_serving_pod_reaches_nothing(models: Models, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create()
    body = on_claim(models, project)
    name = body["metadata"]["name"]
    models.apply(body)
    models.wait_ready(name, 300)
    (pod,) = models.pods(name)
    address = pod.status.pod_ip

    def seen(attempt: list[int]) -> bool:
        attempt.append(len(attempt))
        found = tried(models, f"stranger-{len(attempt)}", f"{address}:8001", f"{address}:8002", f"{address}:8000")
        return found == {f"{address}:8001": "open", f"{address}:8002": "shut", f"{address}:8000": "shut"}

    attempts: list[int] = []
    models.eventually(lambda: seen(attempts), 90)  # the firewall follows a new pod within seconds
    from kubernetes.stream import stream

    said = stream(
        models.core.connect_get_namespaced_pod_exec, pod.metadata.name, models.namespace, container="triton",
        command=["/opt/stillhouse/bin/python", "-c", _TRY, "10.96.0.1:443", "10.96.0.10:53", "192.0.2.11:6443"],
        stderr=True, stdin=False, stdout=True, tty=False,
    )  # fmt: skip
    assert said.split() == ["10.96.0.1:443", "shut", "10.96.0.10:53", "shut", "192.0.2.11:6443", "shut"]
