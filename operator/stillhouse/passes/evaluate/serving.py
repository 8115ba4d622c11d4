"""Serves the gate's candidates in a process beside this one: on a laptop, and wherever no other server is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stillhouse.clients.hardware import hardware
from stillhouse.clients.triton import TritonClient
from stillhouse.passes.base import Artifact, Served
from stillhouse.settings import load_settings
from stillhouse.triton.layout import lay_out
from stillhouse.triton.server import start

__all__ = ["MODEL", "BesideUs", "measured_settings"]

MODEL = "candidate"
"""Name of every candidate on the wire."""
GRACE_S = 5.0


def measured_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings to measure with, of a gate's configuration.

    The load repeats the gate's rows: a response cache would answer for the model.
    """
    return {**config["serve"], "responseCache": False}


class BesideUs:
    """Starts Triton on loopback, pinned to as many cores as the CPU limit has; the clients get the others."""

    @contextmanager
    def serving(self, artifact: Artifact, precision: str, config: Mapping[str, Any], scratch: Path) -> Iterator[Served]:
        """Serve a candidate for as long as the context lasts.

        Raises:
            ServerError: it does not start.
        """
        options = lay_out(
            artifact.path,
            scratch / "repository",
            model=MODEL,
            digest=artifact.digest,
            precision=precision,
            serve=measured_settings(config),
            runtime_name=config["runtime"],
            pinned=True,
            run_folder=scratch / "run",
            cache_folder=load_settings().cache,
            die_with_parent=True,
        )
        server = start(options)
        try:
            yield Served(lambda: TritonClient(server.address, retries=0), hardware().to_json())
        finally:
            server.stop(GRACE_S)
