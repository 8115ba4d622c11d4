"""What rendering needs to know, as plain data: the API's models are mapped onto these, so that neither knows the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stillhouse.inference.signature import Signature
from stillhouse.inference.steps import Step

__all__ = ["ArtifactView", "ServeSettings"]


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How a model is served. Times are microseconds, sizes bytes.

    `max_queue_delay_us`: how long the batcher waits for more requests; 0 batches only what has queued up meanwhile.
    `preferred_batch_sizes`: sizes that leave at once even where larger ones could be formed; empty: none; None: the
    runtime's own.
    `max_queue_size`: requests waiting beyond this many are refused at once (UNAVAILABLE); 0: no limit.
    `queue_timeout_us`: requests waiting longer are refused; 0: no limit. Clients may set a shorter one per request.
    Both are off unless asked for: any queue policy makes Triton 2.51 pause for half a second now and then
    (docs/design/20261122-embedded-server.md). Deadlines of clients work without: what was given up is not run.
    `instances`, `threads`: None lets the profile choose from the CPUs.
    `tensorrt`: what TensorRT computes in, fp32 or fp16, with `workspace_bytes` of the GPU's memory; "": no TensorRT. Of runtimes
    with GPUs alone, whose `instances` are those of each GPU.
    """

    max_batch_size: int = 32
    max_queue_delay_us: int = 0
    preferred_batch_sizes: tuple[int, ...] | None = None
    max_queue_size: int = 0
    queue_timeout_us: int = 0
    response_cache: bool = False
    response_cache_bytes: int = 64 << 20
    instances: int | None = None
    threads: int | None = None
    warmup: bool = True
    tensorrt: str = ""
    workspace_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """An artifact as rendering sees it.

    `name` is the model's name on the wire, `files` maps the artifact's file names to where they lie; only the names
    and paths are used, nothing is read. `steps`: what comes after the model in its pipeline;
    `twice`: what the model gives once more under another name (joined.py).
    """

    name: str
    digest: str
    variant: str
    precision: str
    signature: Signature
    files: Mapping[str, Path]
    model_bytes: int = 0
    steps: tuple[Step, ...] = ()
    twice: tuple[str, ...] = ()
