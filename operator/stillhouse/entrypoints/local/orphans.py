"""Servers that nobody knows of: their `still up` was killed before it could write who they are.

A server is ours when the model repository on its command line lies in the model's run folder. Callers hold the model's
lock, or mean to stop everything, so what the record does not name is waited for by nobody.
"""

from __future__ import annotations

from pathlib import Path

from stillhouse.triton.birth import birth
from stillhouse.triton.handle import ServerHandle

__all__ = ["alive", "stop_orphans"]

_GRACE_S = 5.0


def alive(pid: int) -> bool:
    """Return whether a process of this id runs that could be a `still`: a zombie or a reused id of another program is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and any("still" in word for word in process.cmdline())
    except psutil.Error:
        return False


def stop_orphans(run_folder: Path, known: int) -> int:
    """Stop every server of this run folder but the one of process id `known`; return how many there were."""
    found = [handle for handle in _servers(run_folder) if handle.pid != known]
    for handle in found:
        handle.stop(_GRACE_S)
    return len(found)


def _servers(run_folder: Path) -> list[ServerHandle]:
    import psutil

    start = f"--model-repository={run_folder}/"
    servers = []
    for process in psutil.process_iter(["cmdline"]):
        words: list[str] = process.info["cmdline"] or []
        if not any(word.startswith(start) for word in words):
            continue
        given = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
        servers.append(
            ServerHandle(
                pid=process.pid,
                birth=birth(process.pid),
                host=given.get("--grpc-address", "127.0.0.1"),
                grpc_port=int(given.get("--grpc-port", 0)),
                http_port=None,
                metrics_port=None,
                log=str(run_folder / f"triton-{given.get('--id', '').rpartition('-')[2]}.log"),
                model=run_folder.name,
                digest="",
                server_id=given.get("--id", ""),
            )
        )
    return servers
