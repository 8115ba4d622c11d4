"""How many instances and threads a model gets: a pure function of the CPUs and of the model's cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Profile", "choose"]

# Above this many bytes a second copy of the weights costs more memory than a second thread costs speed.
LARGE_MODEL_BYTES = 256 << 20
# A machine of more cores than this keeps some free for the server's own threads and for tokenising.
SPARE_ABOVE_CPUS = 4
SPARE_CPUS = 2


@dataclass(frozen=True, slots=True)
class Profile:
    """`instances` processes of the backend, each with `threads` ONNX Runtime threads."""

    instances: int
    threads: int


def choose(cpus: float, model_bytes: int = 0, instances: int | None = None, threads: int | None = None) -> Profile:
    """Choose instances and threads.

    Args:
        cpus: CPUs available: a pod's CPU limit (may be a fraction), or the cores of the affinity mask.
        model_bytes: size of the model file; 0: not known, taken as small.
        instances: what the user set; None: choose.
        threads: likewise.

    Instances of one thread each waste nothing on synchronising (on few cores threads that spin or wait cost more than they
    bring: docs/design/20261122-embedded-server.md) and overlap one batch's tokenising with another's model. Large models
    get fewer copies and more threads each. On more than four CPUs two stay free for the server itself.
    """
    usable = max(1, math.floor(cpus))
    if usable > SPARE_ABOVE_CPUS:
        usable -= SPARE_CPUS
    if threads is None and instances is None:
        threads = min(usable, 4) if model_bytes > LARGE_MODEL_BYTES else 1
    if threads is None:
        assert instances is not None
        threads = max(1, usable // instances)
    if instances is None:
        instances = max(1, usable // threads)
    return Profile(instances, threads)
