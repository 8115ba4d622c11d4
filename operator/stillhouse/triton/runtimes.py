"""Runtimes as data: what differs between one Triton and the next.

A runtime says which server it is, which flags that version knows, how a repository is laid out for it and what of the
configuration it reads. Everything else is the same for all, and every runtime passes tests/contract/runtimes/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from stillhouse.errors import SpecError
from stillhouse.planning.runtimes import CPU, FACTS, GPU

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

    `backend` is what config.pbtxt names; of an `ensemble` it runs the model alone, on `accelerator`, and ours what comes before
    and after it (ensemble.py). `home` is the folder of an installation with its backends; empty: that of `nvidia-pytriton`.
    `model_folder` the version folder; `flags` go to every start of this server; `restricted_*` the APIs that need a key which no
    client is given (flags.py); `response_parameters` whether its Python backend can attach parameters to a response;
    `preferred_batch_size` the rows that leave at once though more could be waited for or taken (0: none), where the model allows
    more.
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
    ensemble: bool = False
    home: str = ""
    preferred_batch_size: int = 0
    probes: Probes = Probes()
    advisory: str = ""


# Not restricted: health, metadata, inference, model-config (a client may ask what it talks to) and statistics (read
# only, it drives `still status` and the gate). The rest can change the server, read its files or map memory.
_LOCKED = ("shared-memory", "model-repository", "trace", "logging")
_ON_A_LAPTOP = (
    "Stillhouse binds it to loopback, leaves HTTP off, locks repository, shared-memory, trace and logging control and serves an "
    "immutable repository. Do not expose it to a network that you do not trust."
)

_FLAGS = (
    "--model-control-mode=none",
    "--disable-auto-complete-config",
    "--strict-readiness=true",
    "--exit-on-error=true",
    "--allow-cpu-metrics=false",
    "--allow-sagemaker=false",
    "--allow-vertex-ai=false",
    # Clients connect anew now and then, without losing a request: that is how a new version gets them (handover.py).
    "--grpc-max-connection-age=10000",
    "--grpc-max-connection-age-grace=30000",
)

_TRITON_ORT_CPU = Runtime(
    name=CPU,
    image="stillhouse/triton-ort-cpu",
    server_version=FACTS[CPU].server_version,
    backend="stillhouse",
    flags=(*_FLAGS, "--allow-gpu-metrics=false"),
    environment=MappingProxyType({"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}),
    restricted_grpc=_LOCKED,
    restricted_http=_LOCKED,
    response_parameters=False,
    # Without it the first free instance takes all that waits and the other is left with single rows: half of all batches
    # had one row, and the 99th percentile was a third higher (docs/design/20261122-embedded-server.md).
    preferred_batch_size=8,
    advisory=f"{FACTS[CPU].advisory} {_ON_A_LAPTOP}",
)

# NVIDIA's own image, on GPUs. It has been run by nobody who wrote this: what is rendered for it is held against Triton's
# protobuf, and its ensemble runs in tests with ONNX Runtime on a CPU in the place of the backend (tests/triton/test_ensemble.py).
_TRITON_NVIDIA = Runtime(
    name=GPU,
    image="stillhouse/triton-nvidia",
    server_version=FACTS[GPU].server_version,
    backend="onnxruntime",
    flags=_FLAGS,
    environment=MappingProxyType({"TOKENIZERS_PARALLELISM": "false"}),
    restricted_grpc=_LOCKED,
    restricted_http=_LOCKED,
    accelerator="gpu",
    ensemble=True,
    home="/opt/tritonserver",
    probes=Probes(start_timeout_s=1800),  # TensorRT makes its engines first
)

RUNTIMES: Mapping[str, Runtime] = MappingProxyType({each.name: each for each in (_TRITON_ORT_CPU, _TRITON_NVIDIA)})


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
