"""From an artifact and the measured part of `serve` to a repository on disk and a server's options: in one way everywhere.

A laptop's server, the gate's and a pod's are all laid out here, so that what was measured is what serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillhouse.inference.signature import Signature
from stillhouse.inference.steps import read_steps
from stillhouse.triton.placement import place
from stillhouse.triton.repository import Repository, render
from stillhouse.triton.runtimes import runtime
from stillhouse.triton.server import ServerOptions
from stillhouse.triton.settings import ArtifactView, ServeSettings
from stillhouse.triton.writer import write

__all__ = ["lay_out", "serve_settings", "view"]


def lay_out(
    artifact: Path,
    repository: Path,
    *,
    model: str,
    digest: str,
    precision: str,
    serve: Mapping[str, Any],
    runtime_name: str,
    pinned: bool,
    cut: Path | None = None,
    **options: Any,
) -> ServerOptions:
    """Write the repository of an artifact and return what to start; `options` are `ServerOptions`'s own.

    `serve` is the measured part of a spec in plain units (planning.request.serve_config). `pinned` keeps the server on as many
    cores as its CPU limit has; in a pod the kernel bounds it instead. `cut`: the artifact
    of its two halves, of which the upper one is served beside it.

    Raises:
        SpecError, SourceError, StoreError: settings contradict each other, a file is missing, the disk is full.
    """
    which, settings, placement = runtime(runtime_name), serve_settings(serve), place(serve["cpus"])
    seen = view(artifact, model, digest, precision)
    rendered = render(seen, which, settings, placement.cpus)
    if cut is not None:
        from stillhouse.inference.halves import UPPER, Cut, sent
        from stillhouse.triton.halves import upper

        made = Cut.read(cut)
        half = upper(seen, model + UPPER, sent(made), made.output, cut, which, settings, placement.cpus)
        rendered = Repository({**rendered.entries, **half})
    write(rendered, repository)
    return ServerOptions(
        model=model,
        repository=repository,
        digest=digest,
        runtime=which,
        cpus=placement.server if pinned else None,
        response_cache_bytes=settings.response_cache_bytes if settings.response_cache else 0,
        **{"start_timeout_s": which.probes.start_timeout_s, **options},
    )


def serve_settings(config: Mapping[str, Any]) -> ServeSettings:
    """Map the measured part of `serve` (plain units) onto what rendering takes."""
    return ServeSettings(
        max_batch_size=int(config["maxBatchSize"]),
        max_queue_delay_us=round(config["maxQueueDelay"] * 1e6),
        max_queue_size=int(config["queueSize"]),
        queue_timeout_us=round((config["queueTimeout"] or 0) * 1e6),
        response_cache=bool(config["responseCache"]),
        instances=config["instances"],
        threads=config["threads"],
        tensorrt=config.get("tensorrt") or "",
        workspace_bytes=int(config.get("workspace") or 0),
    )


def view(folder: Path, name: str, digest: str, precision: str) -> ArtifactView:
    """Return an artifact as rendering sees it."""
    return ArtifactView(
        name=name,
        digest=digest,
        variant="default",
        precision=precision,
        signature=Signature.read(folder),
        files={path.name: path for path in sorted(folder.iterdir()) if path.is_file()},
        model_bytes=(folder / "model.onnx").stat().st_size,
        steps=read_steps(folder),
    )
