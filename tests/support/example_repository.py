"""Writes the example in `model_repository/`: run from the project's root as `python -m tests.support.example_repository`.

It lies here because Triton takes every folder of a model repository for a model, also a `__pycache__`.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from tests.support.tiny_model import write_tiny_model

from stillhouse.clients.store.objects import digest_of
from stillhouse.triton.repository import Repository, render
from stillhouse.triton.runtimes import runtime
from stillhouse.triton.settings import ArtifactView, ServeSettings
from stillhouse.triton.writer import write

HERE = Path(__file__).resolve().parents[2] / "model_repository"
NAME = "tiny-embedding"


def rendered(artifact: Path) -> Repository:
    """Make the artifact in `artifact` and render its repository for one CPU, so that every machine can load it."""
    signature = write_tiny_model(artifact, dimension=16, max_length=32, seed=0)
    files = {path.name: path for path in sorted(artifact.iterdir())}
    listed = [[name, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size] for name, path in sorted(files.items())]
    view = ArtifactView(NAME, digest_of("onnx-model", listed), "main", "fp32", signature, files)
    return render(view, runtime("triton-ort-cpu"), ServeSettings(max_batch_size=32), cpus=1)


def main() -> None:
    """Write the model's folder."""
    with tempfile.TemporaryDirectory() as scratch:
        repository = rendered(Path(scratch) / "artifact")
        whole = Path(scratch) / "repository"
        write(repository, whole)
        for path in sorted(whole.rglob("*")):
            if path.is_file():
                target = HERE / path.relative_to(whole)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
