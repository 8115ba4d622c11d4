"""Our sides of `bench-serving`: models built by `still build`, served by the embedded Triton as `still up` serves them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness.errors import BenchError
from bench.harness.process import tree_cpu_seconds
from bench.harness.sides import Batches, InProcessSide, ServerSide, Side
from bench.peers.model import DIMENSION
from bench.serving_figures import EVEN
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.triton import TritonClient
from stillhouse.entrypoints.local.building import runner
from stillhouse.entrypoints.local.workspace import Workspace
from stillhouse.passes.base import Artifact
from stillhouse.passes.runner import Listener
from stillhouse.planning.plan import Plan
from stillhouse.settings import load_settings
from stillhouse.triton.layout import view
from stillhouse.triton.placement import place
from stillhouse.triton.repository import render
from stillhouse.triton.runtimes import runtime
from stillhouse.triton.server import ServerHandle, ServerOptions, start
from stillhouse.triton.settings import ServeSettings
from stillhouse.triton.writer import write

MODELS = Path(__file__).parent / "models"
EXAMPLES = Path(__file__).parent.parent / "examples"
REQUEST = ("--protocol", "grpc", "--input", "TEXT", "--output", "EMBEDDING")


@dataclass
class Embedded:
    """A running embedded server, as the harness sees one."""

    handle: ServerHandle
    model: str
    folder: tempfile.TemporaryDirectory[str] = field(repr=False)
    batches: Batches

    @property
    def address(self) -> str:
        """Give host and port."""
        return self.handle.address

    def cpu_seconds(self) -> float:
        """CPU seconds of the server and its backends so far."""
        return tree_cpu_seconds(self.handle.pid)

    def stop(self) -> None:
        """Note the batches it formed, stop it, and remove its repository; one that has gone is asked nothing."""
        try:
            if self.handle.alive():
                with TritonClient(self.address) as client:
                    self.batches.counts = dict(client.statistics(self.model).batch_sizes)
        finally:
            self.handle.stop(5.0)
            self.folder.cleanup()


def build_command(file: Path) -> list[str]:
    """Give the words of a `still build` that prints its revision as JSON."""
    return [sys.executable, "-m", "stillhouse.entrypoints.cli", "build", str(file), "-o", "json"]


def carry_out(work: Workspace, target: str, listener: Listener, plan: Plan | None = None) -> Artifact:
    """Carry out what the step `target` needs, of the file's own plan or another, and give what it made."""
    wanted = plan or work.plan
    worker = runner(work, listener)
    worker.run(dataclasses.replace(wanted, targets=(target,)))
    return worker.artifact(wanted.step(target))


def revision_of(file: Path) -> dict[str, Any]:
    """Run `still build` and give the revision as it prints it.

    Raises:
        BenchError: it does not build.
    """
    done = subprocess.run(build_command(file), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchError(f"still build {file} ended with {done.returncode}")
    revision: dict[str, Any] = json.loads(done.stdout)
    return revision


def build(file: Path) -> tuple[Path, str, str]:
    """Build a model and give (artifact folder, digest, precision). Raises as `revision_of`."""
    revision = revision_of(file)
    folder = LocalStore(load_settings().home).objects.path(revision["digest"])
    return folder, revision["digest"], revision["precision"]


def sides(name: str, file: Path) -> list[Side]:
    """Build a model and give its sides: through Triton, and without a server in the same batches and in even ones."""
    artifact, digest, precision = build(file)
    batches = Batches()

    def begin() -> Embedded:
        return embedded(name, artifact, digest, precision, batches)

    return [
        ServerSide(name, begin, (*REQUEST, "--model", name), DIMENSION),
        InProcessSide(f"{name}-inprocess", artifact, DIMENSION, batches=batches),
        InProcessSide(f"{name}-inprocess{EVEN}", artifact, DIMENSION),
    ]


def embedded(name: str, artifact: Path, digest: str, precision: str, batches: Batches | None = None) -> Embedded:
    """Serve an artifact as `still up` does; `batches` is told those that were formed."""
    folder = tempfile.TemporaryDirectory(prefix="still-bench-")
    place_ = place(None)
    repository = Path(folder.name) / "repository"
    write(render(view(artifact, name, digest, precision), runtime("triton-ort-cpu"), ServeSettings(), place_.cpus), repository)
    options = ServerOptions(
        model=name,
        repository=repository,
        run_folder=Path(folder.name) / "run",
        cache_folder=load_settings().cache,
        digest=digest,
        cpus=place_.server,
        die_with_parent=True,
    )
    return Embedded(start(options), name, folder, batches if batches is not None else Batches())


def everything() -> list[Side]:
    """Give the sides of both models."""
    return [
        *sides("compressed", MODELS / "minilm-int8.yaml"),
        *sides("student", EXAMPLES / "docstring-search" / "distilledmodel.yaml"),
    ]
