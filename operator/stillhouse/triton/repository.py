"""The model repository, rendered: a pure function of artifact, runtime, settings and CPUs.

The same arguments give the same bytes everywhere: no clock, no path of this machine and no randomness goes in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stillhouse.errors import SourceError, SpecError
from stillhouse.inference.signature import SIGNATURE_FILE
from stillhouse.inference.steps import step_file
from stillhouse.triton.ensemble import ensemble
from stillhouse.triton.joined import joined
from stillhouse.triton.model_config import LABELS_FILE, RenderedModel, config_text
from stillhouse.triton.profile import choose
from stillhouse.triton.runtimes import Runtime
from stillhouse.triton.settings import ArtifactView, ServeSettings

__all__ = ["LinkTo", "Repository", "render"]


@dataclass(frozen=True, slots=True)
class LinkTo:
    """A file of the repository that is a file of the artifact."""

    source: Path


@dataclass(frozen=True)
class Repository(Mapping[str, bytes | LinkTo]):
    """Relative POSIX path → contents. Iterates in the order of the paths."""

    entries: Mapping[str, bytes | LinkTo]

    def __getitem__(self, path: str) -> bytes | LinkTo:
        return self.entries[path]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.entries))

    def __len__(self) -> int:
        return len(self.entries)


def render(artifact: ArtifactView, runtime: Runtime, serve: ServeSettings, cpus: float) -> Repository:
    """Render the repository of one model.

    Args:
        artifact: what is served; its files become links.
        runtime: which Triton.
        serve: batching, queue, cache and instances.
        cpus: CPUs available: a pod's limit or the cores of the affinity mask.

    Raises:
        SpecError: settings that contradict each other.
        SourceError: the artifact lacks a file.
    """
    _check(serve)
    needed = ["model.onnx", SIGNATURE_FILE]
    if artifact.signature.takes_texts:
        needed.append("tokenizer.json")
    asked = [*needed, *(step_file(step.name) for step in artifact.steps)]
    missing = [name for name in asked if name not in artifact.files]
    if missing:
        raise SourceError(
            "the artifact lacks a file that serving needs",
            field=artifact.name,
            found=", ".join(sorted(artifact.files)) or "no files",
            allowed=", ".join(asked),
            fix=f"build it again: still rebuild {artifact.name}",
        )
    entries: dict[str, bytes | LinkTo] = {}
    for model in _models(artifact, runtime, serve, cpus, needed):
        root = PurePosixPath(model.name)
        entries[str(root / "config.pbtxt")] = model.config.encode("utf-8")
        for name in model.files:
            entries[str(root / runtime.model_folder / name)] = LinkTo(artifact.files[name])
        for name, source in model.renamed.items():
            entries[str(root / runtime.model_folder / name)] = LinkTo(artifact.files[source])
        if LABELS_FILE in model.config:
            entries[str(root / LABELS_FILE)] = "".join(f"{label}\n" for label in artifact.signature.labels).encode()
    return Repository(entries)


def _models(
    artifact: ArtifactView, runtime: Runtime, serve: ServeSettings, cpus: float, files: Sequence[str]
) -> Iterator[RenderedModel]:
    if artifact.steps:
        yield from joined(artifact, runtime, serve, lambda alone: _models(alone, runtime, serve, cpus, files))
    elif runtime.ensemble:
        yield from ensemble(artifact, runtime, serve, cpus)
    else:
        profile = choose(cpus, artifact.model_bytes, serve.instances, serve.threads)
        yield RenderedModel(artifact.name, config_text(artifact, runtime, serve, profile), tuple(files))


def _check(serve: ServeSettings) -> None:
    if serve.max_batch_size < 1:
        raise SpecError(
            "a batch has at least one row",
            field="spec.serve.batching.maxBatchSize",
            found=str(serve.max_batch_size),
            allowed="1 or more",
        )
    for size in serve.preferred_batch_sizes or ():
        if not 1 <= size <= serve.max_batch_size:
            raise SpecError(
                "a preferred batch size is larger than the largest batch",
                field="spec.serve.batching.preferredBatchSizes",
                found=str(size),
                allowed=f"1 to {serve.max_batch_size}",
                fix="raise spec.serve.batching.maxBatchSize or leave the size out",
            )
    for field, value in (
        ("spec.serve.batching.maxQueueDelay", serve.max_queue_delay_us),
        ("spec.serve.queue.maxSize", serve.max_queue_size),
        ("spec.serve.queue.timeout", serve.queue_timeout_us),
    ):
        if value < 0:
            raise SpecError("negative", field=field, found=str(value), allowed="0 or more")
    for field, count in (("spec.serve.instances", serve.instances), ("spec.serve.threads", serve.threads)):
        if count is not None and count < 1:
            raise SpecError("needs one at least", field=field, found=str(count), allowed="1 or more")
