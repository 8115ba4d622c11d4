"""Nothing of a cluster is left on the machine: not of one whose test failed, nor of one whose test process was killed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result
from kubernetes import client
from tests.support.nodes import __main__ as commands
from tests.support.nodes import cluster as whole
from tests.support.nodes import groups, images, network
from tests.support.nodes.cluster import Cluster, running_cluster
from tests.support.nodes.node import LOG_LINKS, PAUSE
from tests.support.nodes.place import Place

Built = tuple[dict[str, Path], Path]


def remains(place: Place) -> dict[str, list[str]]:
    """Return what of a cluster is to be found on this machine, by kind; kinds of which nothing is there are left out."""
    mine = f"{place.folder}/"
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    hierarchies = [Path(root) for root, _, _ in os.walk("/sys/fs/cgroup") if Path(root).name.startswith(f"{place.name}-node")]
    members = set().union(*(groups.processes(place.group(node)) for node in range(1, place.nodes + 1)))
    running = [
        each
        for each in psutil.process_iter(["pid", "cmdline", "status"])
        if each.info["status"] != psutil.STATUS_ZOMBIE
        and (each.info["pid"] in members or any(mine in word for word in each.info["cmdline"] or []))
    ]
    found = {
        "mounts": [each for each in mounts if each.startswith(mine)],
        "namespaces": [each.name for each in Path("/run/netns").glob(f"{place.name}-*")],
        "groups": [str(each) for each in hierarchies],
        "processes": [" ".join(each.info["cmdline"] or [])[:160] for each in running],
        "notes": [each.name for each in network.NOTES.glob("*") if mine in each.read_text(errors="replace")],
        "logs": [each.name for each in LOG_LINKS.glob("*") if each.is_symlink() and str(each.readlink()).startswith(mine)],
        "folder": [str(place.folder)] if place.folder.exists() else [],
    }
    return {kind: each for kind, each in found.items() if each}


def with_a_pod(cluster: Cluster) -> None:
    """Start a pod that would wait for ever, and wait until it runs."""
    with cluster.client() as api:
        core = client.CoreV1Api(api)
        container = client.V1Container(name="waits", image=PAUSE, image_pull_policy="Never")
        spec = client.V1PodSpec(containers=[container], automount_service_account_token=False)
        core.create_namespaced_pod("default", client.V1Pod(metadata=client.V1ObjectMeta(name="waits"), spec=spec))
        eventually(lambda: core.read_namespaced_pod("waits", "default").status.phase == "Running", 90)


def eventually(look: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.1)


EVERYTHING = {"mounts", "namespaces", "groups", "processes", "notes", "logs", "folder"}


def test_nothing_is_left_after_a_failure_nor_after_a_killed_process(built: Built) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.cluster.test_gone import with_a_pod\n"
        "from tests.support.nodes.cluster import running_cluster\n"
        "programs = dict(word.split('=', 1) for word in sys.argv[1:])\n"
        "with running_cluster({name: Path(path) for name, path in programs.items()}, nodes=1) as cluster:\n"
        "    with_a_pod(cluster)\n"
        "    print(cluster.place.folder, flush=True)\n"
        "    time.sleep(600)\n"
    )
    programs, _ = built
    given = [f"{name}={path}" for name, path in programs.items()]
    with subprocess.Popen([sys.executable, "-c", script, *given], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        killed = Place(Path(child.stdout.readline().strip()), 1)
        assert set(remains(killed)) == EVERYTHING
        child.send_signal(signal.SIGKILL)
    # Its servers die with it; the pod, which is nobody's child, goes with the next cluster's start.
    eventually(lambda: not any("kube-apiserver" in each or "/kubelet " in each for each in remains(killed)["processes"]), 10)
    with pytest.raises(RuntimeError, match="a test fails"), running_cluster(programs, nodes=1) as cluster:
        failed = cluster.place
        assert remains(killed) == {}
        with_a_pod(cluster)
        assert set(remains(failed)) == EVERYTHING
        raise RuntimeError("a test fails")
    assert remains(failed) == {}


def test_a_cluster_to_play_with_is_made_again_after_it_was_killed_and_removed(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `make cluster` and `make cluster-down` do, at another place."""
    # Not in pytest's own folders, whose paths are too long for a socket.
    place = Place(Path(tempfile.gettempdir()) / f"play-{secrets.token_hex(4)}", 1)
    monkeypatch.setattr(whole, "PLAY", place.folder)
    monkeypatch.setattr(images, "ours", lambda: built[1])

    def still(*words: str, code: int = 0) -> str:
        done: Result = CliRunner().invoke(commands.main, words)
        assert done.exit_code == code, done.output
        return done.output

    try:
        assert "no cluster is here" in still("down")
        assert "nodes are ready" in still("up", "--nodes", "1")
        with_a_pod(whole.play())
        assert set(remains(place)) == EVERYTHING
        assert "it runs already" in still("up", "--nodes", "1", code=1)
        # Somebody kills its servers; the pod goes on.
        whole.play().processes.end_all()
        assert set(remains(place)) == EVERYTHING
        assert "removing what is left" in still("up", "--nodes", "1")
        with whole.play().client() as api:
            assert not client.CoreV1Api(api).list_namespaced_pod("default").items, "it is another cluster"
    finally:
        gone = still("down")
    assert "it is gone" in gone
    assert remains(place) == {}
