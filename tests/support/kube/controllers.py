"""Kubernetes' own controllers beside a control plane of the tests: what makes of a Deployment its ReplicaSet and of that its
pods, collects what has lost its owner, empties a namespace, scales by an autoscaler. No root, loopback alone.

There are still no nodes: pods stay Pending.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.kube.control_plane import ControlPlane, answers, listening
from tests.support.kube.process import ServerProcess

__all__ = ["ALL", "GARBAGE", "WORKLOADS", "running_controllers"]

ALL = ("*",)
"""Every controller that is on by default."""
GARBAGE = ("garbage-collector-controller", "namespace-controller")
"""What removes: what has lost its owner, what is in a namespace that goes."""
WORKLOADS = ("deployment-controller", "replicaset-controller")
"""What makes pods of Deployments. Jobs are left to the tests' own hands; add `job-controller` where they are not."""


@contextmanager
def running_controllers(
    executable: Path,
    control_plane: ControlPlane,
    controllers: Sequence[str] = ALL,
    *,
    autoscaler_period: str = "15s",
    flags: Sequence[str] = (),
) -> Iterator[ServerProcess]:
    """Run kube-controller-manager, yield when it is healthy, stop it.

    Args:
        executable: `kube-controller-manager`, as of `binaries.provide`.
        control_plane: whose objects it controls; its own log lies in that folder.
        controllers: names as `--controllers` knows them; `horizontal-pod-autoscaler-controller` is one.
        autoscaler_period: how often an autoscaler looks, as a Go duration.
        flags: further flags; the last of two that disagree counts.

    Raises:
        StartFailed: it ended or was not healthy in time; the text holds the end of its log.
    """
    kubeconfig = control_plane.folder / "controllers.kubeconfig"
    kubeconfig.write_text(control_plane.kubeconfig(token=control_plane.controllers_token))
    kubeconfig.chmod(0o600)

    def arguments(port: int) -> list[str]:
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={control_plane.folder / 'controllers'}",
            f"--root-ca-file={control_plane.ca_file}",
            f"--service-account-private-key-file={control_plane.account_key_file}",
            # Each controller with the rights of its own, as everywhere: a rule that is missing in them is missing here.
            "--use-service-account-credentials",
            "--leader-elect=false",  # it is the only one
            f"--controllers={','.join(controllers)}",
            f"--horizontal-pod-autoscaler-sync-period={autoscaler_period}",
            "--profiling=false",
            *flags,
        ]

    def is_healthy(port: int) -> str | None:
        # Its certificate is its own and new at every start: the process is known by its pid.
        return answers(f"https://127.0.0.1:{port}/healthz", verified=False)

    with listening("kube-controller-manager", executable, control_plane.folder, arguments, is_healthy) as (server, _):
        yield server
