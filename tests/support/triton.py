"""Real servers for tests: one call from a tiny model to a running Triton."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.support.tiny_model import write_tiny_model

from stillhouse.clients.inference import ModelStatistics
from stillhouse.clients.triton import TritonClient
from stillhouse.inference.signature import Signature
from stillhouse.triton.platform import check_platform
from stillhouse.triton.repository import render
from stillhouse.triton.runtimes import RUNTIMES, Runtime
from stillhouse.triton.server import ServerHandle, ServerOptions, start
from stillhouse.triton.settings import ArtifactView, ServeSettings
from stillhouse.triton.writer import write

__all__ = ["Site", "at_rest", "build", "missing", "running", "settled_statistics"]

T = TypeVar("T")


class Site:
    """A rendered repository and the options to start it."""

    def __init__(self, folder: Path, signature: Signature, options: ServerOptions) -> None:
        self.artifact = folder
        self.signature = signature
        self.options = options

    @property
    def model(self) -> str:
        return self.options.model


def missing() -> str | None:
    """Say what keeps Triton from running here, or None."""
    errors = [finding for finding in check_platform() if finding.level == "error"]
    return "; ".join(f"{finding.title}: {finding.detail} ({finding.fix})" for finding in errors) or None


def build(
    folder: Path,
    cache: Path,
    *,
    serve: ServeSettings | None = None,
    cpus: float = 2,
    which: Runtime = RUNTIMES["triton-ort-cpu"],
    model: dict[str, Any] | None = None,
    **options: Any,
) -> Site:
    """Write a tiny model and its repository under `folder`. `model` goes to `write_tiny_model`."""
    artifact = folder / "artifact"
    signature = write_tiny_model(artifact, **(model or {}))
    serve = serve or ServeSettings()
    view = ArtifactView("tiny", "sha256:00ff", "main", "fp32", signature, {path.name: path for path in artifact.iterdir()})
    write(render(view, which, serve, cpus), folder / "repository")
    values: dict[str, Any] = {
        "start_timeout_s": 60.0,
        "digest": view.digest,
        "response_cache_bytes": serve.response_cache_bytes if serve.response_cache else 0,
        **options,
    }
    return Site(
        artifact,
        signature,
        ServerOptions("tiny", folder / "repository", folder / "run", cache, runtime=which, **values),
    )


@contextmanager
def running(site: Site) -> Iterator[ServerHandle]:
    """Run the site's server for the length of a block."""
    handle = start(site.options)
    try:
        yield handle
    finally:
        handle.stop(2.0)


def at_rest(look: Callable[[], T], seconds: float = 30) -> T:
    """Return counters once they rest: Triton counts a request only after its answer went out, in a thread of its own."""
    deadline = time.monotonic() + seconds
    last = look()
    while True:
        time.sleep(0.3)
        now = look()
        if now == last:
            return now
        assert time.monotonic() < deadline, f"the counters still move after {seconds} s: {now}"
        last = now


def settled_statistics(client: TritonClient, model: str) -> ModelStatistics:
    """Return the counters of a model once they rest."""
    return at_rest(lambda: client.statistics(model))
