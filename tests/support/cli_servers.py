"""What tests of `still up` ask of a project: serve, and who serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.support.cli import Project, servers_below

__all__ = ["MEASURED", "STEPS", "again", "digests", "gone", "server", "servers", "up", "wait_until"]

STEPS = (
    "resolve/source", "resolve/gate-data", "resolve/index-data", "compress/int8", "gate/teacher-reference", "gate/gate",
    "gate/index",
)  # fmt: skip
"""What a project with gate and index takes, in this order."""
MEASURED = ("gate/gate", "gate/index")
"""Those whose results hold figures that differ from run to run."""


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def up(project: Project, *options: str) -> str:
    """Serve and return; return what was said."""
    return project.still("up", "--detach", "--port", "0", *options, str(project.file)).stderr


def again(project: Project) -> str:
    """Serve on whatever port it has."""
    return project.still("up", "--detach", str(project.file)).stderr


def server(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = project.status()["server"]
    return found


def servers(project: Project) -> list[int]:
    """Return the servers' process ids, backends left out."""
    return [process.pid for process in servers_below(project.home) if process.name() == "tritonserver"]


def gone(project: Project) -> None:
    wait_until(lambda: not servers_below(project.home))


def digests(project: Project) -> dict[str, str]:
    return {step["id"]: step["artifact"] for step in project.status()["steps"]}
