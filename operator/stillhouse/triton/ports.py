"""Ports of this machine: is one free, who holds it, which is free."""

from __future__ import annotations

import errno
import socket
from typing import Any

from stillhouse.errors import UsageError

__all__ = ["free_port", "holders", "require_free"]


def free_port(host: str) -> int:
    """Return a port that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def holders(port: int) -> list[tuple[int, str]]:
    """Return (process id, name) of those that listen on `port`; empty where the system does not say."""
    import psutil

    found: dict[int, str] = {}
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        return []
    for connection in connections:
        local: Any = connection.laddr  # an empty tuple or (ip, port)
        if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
            try:
                found[connection.pid] = psutil.Process(connection.pid).name()
            except psutil.NoSuchProcess:
                continue
    return sorted(found.items())


def require_free(host: str, port: int, field: str = "--port") -> None:
    """Check that nobody listens on `port`.

    The test binds without SO_REUSEPORT, so that it also fails beside a server that shares its port: two models must
    never answer on one.

    Raises:
        UsageError: naming the port, who holds it where that is known, and the way out.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a former server that are still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _taken(host, port, field, error) from None


def _taken(host: str, port: int, field: str, error: OSError) -> UsageError:
    if error.errno == errno.EACCES:
        return UsageError("the port needs privileges", field=field, found=str(port), allowed="1024 to 65535", fix=f"{field} 8001")
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(
            "this machine has no such address", field="--host", found=host, allowed="127.0.0.1", fix="--host 127.0.0.1"
        )
    who = ", ".join(f"process {pid} ({name})" for pid, name in holders(port)) or "another process"
    return UsageError(
        "the port is in use",
        field=field,
        found=f"{host}:{port} is held by {who}",
        allowed="a free port, or 0 for any",
        fix=f"{field} {free_port(host)}, or stop that process (a model of yours: still down NAME)",
    )
