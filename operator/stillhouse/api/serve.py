"""How the model is served and scaled."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule, Reserved, ReservedField
from stillhouse.api.scalars import CpuQuantity, Duration, Quantity, parse_cpu, parse_quantity

__all__ = ["Amounts", "Batching", "Queue", "Resources", "Scale", "Serve"]

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
    runtime: Annotated[Any, Reserved, ReservedField("other runtimes", "string")] = None
    """Other runtimes than `triton-ort-cpu`."""
    pod_template: Annotated[Any, Reserved, ReservedField("changes to the pods")] = None
    """Changes to the pods."""
    revision_history_limit: Annotated[Any, Reserved, ReservedField("how many revisions are kept", "integer")] = None
    """How many revisions are kept."""


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
