"""How the model is served and scaled."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from stillhouse.api.base import ApiModel, CelRule, NotAvailableHere, Reserved, ReservedField
from stillhouse.api.scalars import CpuQuantity, Duration, Quantity

__all__ = ["Batching", "Queue", "Resources", "Scale", "Serve"]


class Batching(ApiModel):
    """Dynamic batching."""

    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = 32
    """Most rows that run together."""
    max_queue_delay: Duration = "0ms"
    """How long the first request waits for company. Batches form by themselves while the model is busy."""


class Queue(ApiModel):
    """What happens when more is asked than can be answered."""

    max_size: Annotated[int, Field(ge=0, le=1_000_000)] = 1024
    """Requests that may wait; more are refused at once with UNAVAILABLE. 0: no limit."""
    timeout: Duration | None = None
    """Longest wait in the queue; older requests are refused."""


class Amounts(ApiModel):
    """CPU and memory."""

    cpu: CpuQuantity | None = None
    """CPUs, for example `"1"` or `500m`."""
    memory: Quantity | None = None
    """Memory, for example `512Mi`."""


class Resources(ApiModel):
    """What one server may use."""

    limits: Amounts = Amounts()
    """Upper limits. The server's instances and threads are made to fit the CPU limit."""
    requests: Amounts = Amounts()
    """What a cluster reserves; the limits when left out."""


class Serve(ApiModel):
    """The server."""

    batching: Batching = Batching()
    """Dynamic batching."""
    queue: Queue = Queue()
    """Queue policy."""
    instances: Annotated[int | None, Field(ge=1, le=256)] = None
    """Instances of the model; one a CPU when left out."""
    threads: Annotated[int | None, Field(ge=1, le=256)] = None
    """Threads of each instance; 1 when left out."""
    response_cache: bool = False
    """Answer repeated requests from memory."""
    resources: Resources = Resources()
    """CPU and memory of one server."""
    pin: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)] | None = None
    """Hold this revision (rollback) until the field is removed."""
    runtime: Annotated[Any, Reserved, ReservedField("other runtimes")] = None
    """Other runtimes than `triton-ort-cpu`."""
    pod_template: Annotated[Any, Reserved, ReservedField("changes to the pods")] = None
    """Changes to the pods."""
    revision_history_limit: Annotated[Any, Reserved, ReservedField("how many revisions are kept")] = None
    """How many revisions are kept."""


class Scale(ApiModel):
    """Replicas in a cluster. On one machine there is one server."""

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Fewest replicas. 0 comes with a later version."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Most replicas."""
    mode: Literal["hpa", "cpu", "external"] = "hpa"
    """What drives the number of replicas."""

    cel_rules = (CelRule("self.minReplicas <= self.maxReplicas", "minReplicas must not exceed maxReplicas"),)

    @field_validator("min_replicas", mode="before")
    @classmethod
    def _not_to_zero(cls, value: Any) -> Any:
        if value == 0 and not isinstance(value, bool):
            raise NotAvailableHere("not available in this version: scale to zero")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        if self.min_replicas > self.max_replicas:
            raise ValueError(self.cel_rules[0].message)
        return self
