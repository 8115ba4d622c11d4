"""The metrics of a serving pod: Triton's own, and the CPU time of all that runs here.

Triton counts what its models compute, not what its gRPC front end costs. Of a small student that is half, and a server whose CPU
is used up would look half idle to whoever scales it.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable

import psutil

from stillhouse.entrypoints.answering import Answering

__all__ = ["CONTENT_TYPE", "CPU", "Counters", "cpu_seconds"]

CPU = "stillhouse_cpu_seconds_total"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of Prometheus' text format; Prometheus 3 takes no answer without it."""
_TIMEOUT_S = 5.0
_LARGEST = 1 << 20
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy is set, the server is in this pod


class Counters(Answering):
    """Listens at `/metrics`. `server` returns the port of Triton's metrics at loopback, None while there is no server."""

    def __init__(self, host: str, port: int, model: str, server: Callable[[], int | None]) -> None:
        super().__init__(host, port, {"/metrics": lambda: _told(model, server())}, "metrics", CONTENT_TYPE)


def _told(model: str, port: int | None) -> tuple[int, bytes]:
    if port is None:
        return 503, b"the server has not started yet\n"
    try:
        with _OPENER.open(f"http://127.0.0.1:{port}/metrics", timeout=_TIMEOUT_S) as answer:
            text = answer.read(_LARGEST)
    except (OSError, urllib.error.URLError) as error:
        return 503, f"the server does not tell what it counts: {error}\n".encode()
    return 200, text + _cpu(model).encode()


def _cpu(model: str) -> str:
    return (
        f"# HELP {CPU} CPU time of the pod's processes, in seconds\n# TYPE {CPU} counter\n"
        f'{CPU}{{model="{model}"}} {cpu_seconds():.3f}\n'
    )


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and all below it. It falls where one of them ends that is not our own child."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has just ended
            continue
        total += times.user + times.system
    return total
