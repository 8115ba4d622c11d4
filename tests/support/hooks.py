"""Helm's hooks where no kubelet runs: the Job's command is run as a process, with the token of the Job's account."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client
from tests.support.helm import Helm
from tests.support.kube.control_plane import ControlPlane

__all__ = ["account_token", "uninstall"]

_WAIT_S = 60.0


def account_token(api: client.ApiClient, place: str, account: str) -> str:
    """Return a token of a ServiceAccount."""
    body = {"spec": {"expirationSeconds": 3600}}
    return str(client.CoreV1Api(api).create_namespaced_service_account_token(account, place, body).status.token)


def uninstall(
    chart: Helm, cluster: ControlPlane, release: str, place: str, folder: Path, seen: Callable[[str], None] = lambda _: None
) -> None:
    """Uninstall a release, playing the kubelet of its Job before; `seen` is called with "before" and "after" that Job's work.

    Raises:
        AssertionError: Helm or the Job's command failed, or there was no Job.
    """
    failures: list[BaseException] = []

    def play() -> None:
        try:
            with cluster.client() as api:
                _play(api, cluster, place, folder, seen)
        except BaseException as error:
            failures.append(error)

    kubelet = threading.Thread(target=play)
    kubelet.start()
    ended = chart.run("uninstall", release, "--namespace", place, "--timeout", "60s")
    kubelet.join(_WAIT_S)
    if failures:
        raise AssertionError(f"the hook's Job: {failures[0]}") from failures[0]
    assert ended.returncode == 0, ended.stderr


def _play(api: client.ApiClient, cluster: ControlPlane, place: str, folder: Path, seen: Callable[[str], None]) -> None:
    batch = client.BatchV1Api(api)
    deadline = time.monotonic() + _WAIT_S
    while not (jobs := [each for each in batch.list_namespaced_job(place).items if each.metadata.name.endswith("-leave")]):
        assert time.monotonic() < deadline, "there is no Job"
        time.sleep(0.05)
    (job,) = jobs
    spec: Any = job.spec.template.spec
    (container,) = spec.containers
    kubeconfig = folder / "leave.kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig(token=account_token(api, place, spec.service_account_name)))
    seen("before")
    words = [sys.executable, *container.command[1:], *container.args, "--context=test"]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "NO_PROXY": "127.0.0.1"}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    seen("after")
    now = "2026-01-01T00:00:00Z"
    met = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("SuccessCriteriaMet", "Complete")]
    done = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": met}
    batch.patch_namespaced_job_status(job.metadata.name, place, {"status": done})
