"""Runtimes as data: what differs between one Triton and the next.

A runtime says which server it is, which flags that version knows, how a repository is laid out for it and what of the
configuration it reads. Everything else is the same for all, and every runtime passes tests/contract/runtimes/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from stillhouse.errors import SpecError

__all__ = ["RUNTIMES", "Probes", "Runtime", "runtime"]


@dataclass(frozen=True, slots=True)
class Probes:
    """Paths of the health endpoints on the HTTP port, and how long a start may take, in seconds."""

    live: str = "/v2/health/live"
    ready: str = "/v2/health/ready"
    start_timeout_s: int = 120


@dataclass(frozen=True, slots=True)
class Runtime:
    """One kind of Triton server.

    `backend` is what config.pbtxt names; `model_folder` the version folder; `flags` go to every start of this
    server; `restricted_*` the APIs that need a key which no client is given (flags.py);
    `response_parameters` whether its Python backend can attach parameters to a response; `preferred_batch_size` the rows
    that leave at once though more could be waited for or taken (0: none), where the model allows more.
    """

    name: str
    image: str
    server_version: str
    backend: str
    model_folder: str = "1"
    platforms: tuple[str, ...] = ("linux/amd64",)
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    restricted_grpc: tuple[str, ...] = ()
    restricted_http: tuple[str, ...] = ()
    response_parameters: bool = False
    accelerator: str = "cpu"
    preferred_batch_size: int = 0
    probes: Probes = Probes()
    advisory: str = ""


# Not restricted: health, metadata, inference, model-config (a client may ask what it talks to) and statistics (read
# only, it drives `still status` and the gate). The rest can change the server, read its files or map memory.
_LOCKED = ("shared-memory", "model-repository", "trace", "logging")

_TRITON_ORT_CPU = Runtime(
    name="triton-ort-cpu",
    image="stillhouse/triton-ort-cpu",
    server_version="2.51",
    backend="stillhouse",
    flags=(
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-on-error=true",
        "--allow-gpu-metrics=false",
        "--allow-cpu-metrics=false",
        "--allow-sagemaker=false",
        "--allow-vertex-ai=false",
        # Clients connect anew now and then, without losing a request: that is how a new version gets them (handover.py).
        "--grpc-max-connection-age=10000",
        "--grpc-max-connection-age-grace=30000",
    ),
    environment=MappingProxyType({"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}),
    restricted_grpc=_LOCKED,
    restricted_http=_LOCKED,
    response_parameters=False,
    # Without it the first free instance takes all that waits and the other is left with single rows: half of all batches
    # had one row, and the 99th percentile was a third higher (docs/design/20261122-embedded-server.md).
    preferred_batch_size=8,
    advisory=(
        "Triton 2.51 is the only server on the Python package index. NVIDIA's security bulletins since then name it "
        "(57 CVEs from January 2025 to August 2026, most in the HTTP front end, shared memory and the Python backend's "
        "control messages). Stillhouse binds it to loopback, leaves HTTP off, locks repository, shared-memory, trace "
        "and logging control and serves an immutable repository. Do not expose it to a network that you do not trust."
    ),
)

RUNTIMES: Mapping[str, Runtime] = MappingProxyType({_TRITON_ORT_CPU.name: _TRITON_ORT_CPU})


def runtime(name: str) -> Runtime:
    """Return the runtime of that name.

    Raises:
        SpecError: there is none.
    """
    try:
        return RUNTIMES[name]
    except KeyError:
        raise SpecError(
            "there is no such runtime",
            field="spec.serve.runtime",
            found=name,
            allowed=", ".join(sorted(RUNTIMES)),
        ) from None
