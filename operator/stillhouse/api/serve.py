"""How the model is served and scaled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.broker import Mqtt
from stillhouse.api.pods import PodTemplate
from stillhouse.api.scalars import CpuQuantity, Duration, Quantity, parse_cpu, parse_quantity

__all__ = ["Amounts", "Batching", "Gpu", "Queue", "Resources", "RuntimeName", "Scale", "Serve", "Strategy", "TensorRt"]

RuntimeName = Literal["triton-ort-cpu", "triton-nvidia"]

_SOME_CPU = CelRule("!has(self.cpu) || self.cpu.matches('[1-9]')", "cpu must be more than 0", "cpu")
_SOME_MEMORY = CelRule("!has(self.memory) || self.memory.matches('[1-9]')", "memory must be more than 0", "memory")
_CPU_WITHIN = CelRule(
    "!has(self.requests.cpu) || !has(self.limits.cpu) || quantity(self.requests.cpu).compareTo(quantity(self.limits.cpu)) <= 0",
    "requests.cpu must not exceed limits.cpu",
    "requests.cpu",
)
_MEMORY_WITHIN = CelRule(
    "!has(self.requests.memory) || !has(self.limits.memory)"
    " || quantity(self.requests.memory).compareTo(quantity(self.limits.memory)) <= 0",
    "requests.memory must not exceed limits.memory",
    "requests.memory",
)
_GPU_OF_NVIDIA = CelRule(
    "!has(self.gpu) || self.runtime == 'triton-nvidia'",
    "gpu belongs to runtime triton-nvidia: triton-ort-cpu uses CPUs only",
    "gpu",
)
_NO_CACHE_OF_ENSEMBLES = CelRule(
    "!self.responseCache || self.runtime != 'triton-nvidia'",
    "responseCache belongs to runtime triton-ort-cpu",
    "responseCache",
)
_SOME_WORKSPACE = CelRule("self.workspace.matches('[1-9]')", "workspace must be more than 0", "workspace")
_NOT_TO_ZERO = CelRule("self.minReplicas > 0", "not available in this version: scale to zero", "minReplicas")
_ORDERED = CelRule("self.minReplicas <= self.maxReplicas", "minReplicas must not exceed maxReplicas", "minReplicas")
_NOT_AT_ZERO = CelRule("self.replicas > 0", "not available in this version: scale to zero", "replicas")
_REPLICAS_ARE_EXTERNAL = CelRule(
    "self.mode == 'external' || self.replicas <= 1",
    "replicas belongs to mode external; modes hpa and cpu are bounded by minReplicas and maxReplicas: leave it out or write 1",
    "replicas",
)


class Batching(ApiModel):
    """Dynamic batching."""

    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = 32
    """Most rows that run together."""
    max_queue_delay: Duration = "0ms"
    """How long the first request waits for company. Batches form by themselves while the model is busy."""


class Queue(ApiModel):
    """What happens when more is asked than can be answered.

    Off by default: on `triton-ort-cpu` (Triton 2.51) any queue policy makes requests wait for half a second now and then
    (docs/design/20261122-queue-policy.md). The gate measures what you set.
    """

    max_size: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Requests that may wait; more are refused at once with UNAVAILABLE. 0: no limit."""
    timeout: Duration | None = None
    """Longest wait in the queue; older requests are refused."""


class Amounts(ApiModel):
    """CPU and memory."""

    cpu: CpuQuantity | None = None
    """CPUs, for example `"1"` or `500m`."""
    memory: Quantity | None = None
    """Memory, for example `512Mi`; it bounds pods in a cluster, and nothing on one machine."""

    cel_rules = (_SOME_CPU, _SOME_MEMORY)

    @model_validator(mode="after")
    def _more_than_nothing(self) -> Amounts:
        if self.cpu is not None and not parse_cpu(self.cpu):
            raise _SOME_CPU.broken()
        if self.memory is not None and not self.memory.strip("0.kKMGTi"):
            raise _SOME_MEMORY.broken()
        return self


class Resources(ApiModel):
    """What one server may use."""

    limits: Amounts = Amounts()
    """Upper limits. The server's instances and threads are made to fit the CPU limit."""
    requests: Amounts = Amounts()
    """What a cluster reserves; the limits when left out."""

    cel_rules = (_CPU_WITHIN, _MEMORY_WITHIN)

    @model_validator(mode="after")
    def _requests_within_limits(self) -> Resources:
        asked, most = self.requests, self.limits
        if asked.cpu and most.cpu and parse_cpu(asked.cpu) > parse_cpu(most.cpu):
            raise _CPU_WITHIN.broken()
        if asked.memory and most.memory and parse_quantity(asked.memory) > parse_quantity(most.memory):
            raise _MEMORY_WITHIN.broken()
        return self


class TensorRt(ApiModel):
    """TensorRT below ONNX Runtime. Its engines are made when a pod starts, which takes minutes, and are kept in the pod alone."""

    precision: Literal["fp32", "fp16"] = "fp16"
    """What TensorRT computes in. The gate measures what comes of it."""
    workspace: Quantity = "1Gi"
    """GPU memory that TensorRT may use for intermediate results."""

    cel_rules = (_SOME_WORKSPACE,)

    @model_validator(mode="after")
    def _some(self) -> TensorRt:
        if not self.workspace.strip("0.kKMGTi"):
            raise _SOME_WORKSPACE.broken()
        return self


class Gpu(ApiModel):
    """GPUs of one server."""

    count: Annotated[int, Field(ge=1, le=16)] = 1
    """GPUs of a pod (`nvidia.com/gpu`); each runs `instances` instances of the model."""
    tensorrt: TensorRt | None = None
    """Use TensorRT; left out, ONNX Runtime's CUDA provider."""


class Strategy(ApiModel):
    """How new pods replace old ones, as in a Deployment of `apps/v1`."""

    type: Literal["RollingUpdate", "Recreate"] = "RollingUpdate"
    """`RollingUpdate`: no pod goes before its successor answers, which needs room for one pod more. `Recreate`: all old pods end,
    then the new ones start. Nobody answers in between; for where every GPU is taken."""


class Serve(ApiModel):
    """The server."""

    batching: Batching = Batching()
    """Dynamic batching."""
    queue: Queue = Queue()
    """Queue policy."""
    instances: Annotated[int | None, Field(ge=1, le=256)] = None
    """Instances of the model. Left out: CPUs / threads, of more than four CPUs two kept for the server."""
    threads: Annotated[int | None, Field(ge=1, le=256)] = None
    """Threads of each instance. Left out: CPUs / instances where those are given, else 1, for models above 256 MiB up to 4."""
    response_cache: bool = False
    """Answer repeated requests from memory."""
    resources: Resources = Resources()
    """CPU and memory of one server."""
    pin: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)] | None = None
    """Hold this revision (rollback) until the field is removed."""
    runtime: RuntimeName = "triton-ort-cpu"
    """Which Triton: `triton-ort-cpu` (CPUs, everywhere) or `triton-nvidia` (NVIDIA's own, on GPUs, in a cluster only). The gate
    measures on it. `triton-nvidia` has not been run on a GPU by its authors: its repository is checked against Triton's
    protobuf, and its ensemble runs in tests, with ONNX Runtime on a CPU in the place of the GPU's backend."""
    gpu: Gpu | None = None
    """GPUs, of runtime `triton-nvidia`; left out there: one, with ONNX Runtime's CUDA provider."""
    pod_template: PodTemplate = PodTemplate()
    """Labels, annotations and placement of the pods."""
    strategy: Strategy = Strategy()
    """How new pods replace old ones."""
    mqtt: Mqtt | None = None
    """Requests over a broker too, in a cluster; left out: none."""
    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = 5
    """How many former revisions are kept for `still rollback`, and how many records of failed builds. Older ones are deleted,
    never the one that serves, that is wanted or that is pinned."""

    cel_rules = (_GPU_OF_NVIDIA, _NO_CACHE_OF_ENSEMBLES)

    @model_validator(mode="after")
    def _runtime_fits(self) -> Serve:
        if self.gpu is not None and self.runtime != "triton-nvidia":
            raise _GPU_OF_NVIDIA.broken(fix="write runtime: triton-nvidia, or remove gpu")
        if self.response_cache and self.runtime == "triton-nvidia":
            raise _NO_CACHE_OF_ENSEMBLES.broken(fix="remove responseCache")
        return self


class Scale(ApiModel):
    """Replicas in a cluster. On one machine there is one server."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Fewest replicas in modes `hpa` and `cpu`. 0 comes with a later version."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Most replicas in modes `hpa` and `cpu`."""
    mode: Literal["hpa", "cpu", "external"] = "hpa"
    """What drives the number of replicas: `hpa` (queue time and pending requests), `cpu` (CPU use), `external` (whoever
    writes `replicas`: `kubectl scale`, KEDA or an autoscaler of your own, through `/scale`)."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Replicas wanted in mode `external`; `/scale` reads and writes it. 0 comes with a later version."""

    cel_rules = (_NOT_TO_ZERO, _ORDERED, _NOT_AT_ZERO, _REPLICAS_ARE_EXTERNAL)

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        if self.min_replicas == 0:
            raise _NOT_TO_ZERO.broken(fix="write 1", allowed="1 or more")
        if self.min_replicas > self.max_replicas:
            raise _ORDERED.broken()
        if self.replicas == 0:
            raise _NOT_AT_ZERO.broken(fix="write 1", allowed="1 or more")
        if self.mode != "external" and self.replicas > 1:
            raise _REPLICAS_ARE_EXTERNAL.broken()
        return self
