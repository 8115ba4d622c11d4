"""The whole cluster: up, down, and what one does with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from kubernetes import client, config, utils
from tests.support.kube.process import StartFailed, free_port
from tests.support.kube.workdir import owned_temporary_folder
from tests.support.nodes import control, groups, images, network, node, storage
from tests.support.nodes.commands import run
from tests.support.nodes.place import DNS_ADDRESS, Place
from tests.support.nodes.running import Processes

__all__ = ["PLAY", "PROGRAMS", "Cluster", "down", "play", "running_cluster", "up"]

PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kube-router",
    "coredns",
)
PLAY = Path("/var/lib/stillhouse/play")
"""Where `make cluster` keeps its own."""
_PREFIX = "stillhouse-cluster"
_NOTE = "cluster.json"
_READY_S = 90.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster. `kubeconfig` is the administrator's, from outside the namespaces."""

    place: Place
    processes: Processes = field(repr=False)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's access."""
        return self.place.kubeconfig

    def client(self) -> client.ApiClient:
        """A new client of the administrator; close it, or use it as a context manager."""
        settings = client.Configuration()
        config.load_kube_config(str(self.kubeconfig), client_configuration=settings)
        settings.proxy = None
        return client.ApiClient(settings)

    def within(self, *words: str, number: int = 1) -> list[str]:
        """Return the command that runs `words` where Services and pods are reached, with the cluster's names known."""
        resolver = self.place.folder / "names.conf"
        resolver.write_text(f"nameserver {DNS_ADDRESS}\nsearch default.svc.cluster.local svc.cluster.local\noptions ndots:5\n")
        script = f'mount --bind {resolver} /etc/resolv.conf && exec "$@"'
        return network.within(self.place, number, "unshare", "--mount", "sh", "-c", script, "sh", *words)

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that speaks to this cluster and to no proxy."""
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return {**kept, "KUBECONFIG": str(self.kubeconfig)}

    def run(self, *words: str, timeout_s: float = 120.0, number: int = 1) -> str:
        """Run a command inside a node's network namespace and return its output.

        Raises:
            CommandFailed: its exit code is not 0.
        """
        return run(*self.within(*words, number=number), timeout_s=timeout_s)

    @contextmanager
    def started(self, *words: str, number: int = 1) -> Iterator[None]:
        """Run a command inside a node's network namespace for the length of the block."""
        child = subprocess.Popen(self.within(*words, number=number), stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            child.kill()
            child.wait()

    def story(self, namespace: str) -> str:
        """Return what is to be seen of a namespace's pods: their states, events, and the ends of their logs."""
        lines: list[str] = []
        with self.client() as api:
            core = client.CoreV1Api(api)
            for event in core.list_namespaced_event(namespace).items[-40:]:
                lines.append(f"{event.involved_object.kind}/{event.involved_object.name}: {event.reason}: {event.message}")
            for pod in core.list_namespaced_pod(namespace).items:
                lines.append(f"pod {pod.metadata.name} on {pod.spec.node_name}: {pod.status.phase}")
                for container in [*(pod.spec.init_containers or []), *pod.spec.containers]:
                    with contextlib.suppress(client.ApiException):
                        log = core.read_namespaced_pod_log(pod.metadata.name, namespace, container=container.name, tail_lines=20)
                        lines += [f"  {container.name} | {line}" for line in (log or "").splitlines()]
        return "\n".join(lines)

    def load(self, archive: Path) -> None:
        """Give every node the images of an archive."""
        for number in range(1, self.place.nodes + 1):
            images.load(self.place.socket(number), archive)


def play() -> Cluster:
    """Return the cluster that `make cluster` started.

    Raises:
        StartFailed: there is none.
    """
    note = PLAY / _NOTE
    if not note.exists():
        raise StartFailed("no cluster is here: make cluster")
    return Cluster(Place(PLAY, int(json.loads(note.read_text())["nodes"])), Processes(PLAY, bound=False))


@contextmanager
def running_cluster(
    programs: Mapping[str, Path],
    *,
    nodes: int = 2,
    mounts: Mapping[str, Path] | None = None,
    archives: Sequence[Path] = (),
    apiserver_flags: Sequence[str] = (),
) -> Iterator[Cluster]:
    """Start a cluster for the length of the block; whatever happens, nothing of it is left.

    Raises:
        StartFailed: a part of it did not become ready.
    """
    with owned_temporary_folder(_PREFIX, clean=down) as folder:
        try:
            place = Place(folder, nodes)
            yield up(place, programs, mounts=mounts or {}, archives=archives, bound=True, apiserver_flags=apiserver_flags)
        finally:
            down(folder)


def up(
    place: Place,
    programs: Mapping[str, Path],
    *,
    mounts: Mapping[str, Path],
    archives: Sequence[Path],
    bound: bool,
    apiserver_flags: Sequence[str] = (),
) -> Cluster:
    """Start a cluster. `bound`: its processes die with this one; `archives` are images that every node has from the start.

    Raises:
        StartFailed: a part of it did not become ready.
    """
    (place.folder / _NOTE).write_text(json.dumps({"nodes": place.nodes}))
    processes = Processes(place.folder, bound=bound)
    network.make(place)
    port = free_port()
    control.start(place, programs, processes, port, apiserver_flags)
    cluster = Cluster(place, processes)
    state = images.unpacked([images.pause(), *archives])
    for number in range(1, place.nodes + 1):
        place.node(number).mkdir(parents=True)
        images.give(state, place.node(number) / "containerd-root")
        node.start_runtime(place, number, processes, mounts)
        node.start_kubelet(place, number, programs, processes)
    with cluster.client() as api:
        for each in [*control.start_names(place, programs, processes), *storage.objects(place)]:
            _create(api, each)
        _wait_for_nodes(api, place, processes)
    for number in range(1, place.nodes + 1):
        node.start_firewall(place, number, programs, processes)
        node.wait_for_services(place, number, programs, processes)
    return cluster


def down(folder: Path) -> None:
    """End everything of the cluster whose folder this is, and remove it; also of one whose owner was killed."""
    note = folder / _NOTE
    if not note.exists():
        return
    place = Place(folder, int(json.loads(note.read_text())["nodes"]))
    processes = Processes(folder, bound=False)
    for name in (
        "scheduler",
        "controllers",
        *(f"{each}{number}" for number in range(1, place.nodes + 1) for each in ("kubelet", "proxy", "router")),
    ):
        processes.stop(name)
    members = [groups.processes(place.group(number)) for number in range(1, place.nodes + 1)]
    _kill(set().union(*members))
    processes.end_all()
    _kill({each.pid for each in psutil.process_iter(["cmdline"]) if _is_shim(each, folder)})
    for _ in range(50):  # what a kill has ended leaves its group a moment later
        if not any(groups.processes(place.group(number)) for number in range(1, place.nodes + 1)):
            break
        time.sleep(0.1)
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if len(line.split()) > 1]
    for path in sorted((each for each in mounted if each.startswith(f"{folder}/")), reverse=True):  # pods' networks among them
        subprocess.run(["umount", "-l", path], capture_output=True, check=False)
    network.remove(place)
    node.forget_logs(place)
    for number in range(1, place.nodes + 1):
        groups.remove(place.group(number))


def _is_shim(process: psutil.Process, folder: Path) -> bool:
    words = process.info.get("cmdline") or []
    return any("containerd-shim" in word for word in words[:1]) and any(word.startswith(f"{folder}/") for word in words)


def _kill(pids: set[int]) -> None:
    for pid in pids - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _create(api: client.ApiClient, body: dict[str, Any]) -> None:
    deadline = time.monotonic() + 30
    while True:  # right after its start the API server does not know every kind yet
        try:
            utils.create_from_dict(api, body)
            return
        except (utils.FailToCreateError, client.ApiException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _wait_for_nodes(api: client.ApiClient, place: Place, processes: Processes) -> None:
    core = client.CoreV1Api(api)

    def missing(name: str) -> str:
        try:
            conditions = core.read_node(name).status.conditions or []
        except client.ApiException as error:
            return str(error.reason)
        ready = next((each for each in conditions if each.type == "Ready"), None)
        return "" if ready is not None and ready.status == "True" else (ready.message if ready else "no condition yet")

    for number in range(1, place.nodes + 1):
        processes.wait(f"kubelet{number}", partial(missing, f"node{number}"), _READY_S)
    account: StartFailed | None = None
    deadline = time.monotonic() + _READY_S
    while True:  # pods of `default` need it
        try:
            core.read_namespaced_service_account("default", "default")
            return
        except client.ApiException:
            account = account or StartFailed("the controllers made no service account in namespace default")
            if time.monotonic() > deadline:
                raise account from None
            time.sleep(0.1)
