"""Who answers for a model in the gateway where no pool does alone: a cascade, a pipeline, a model in this process."""

from __future__ import annotations

from typing import Protocol

from stillhouse.edge.status import Reply
from stillhouse.edge.wire.call import Call

__all__ = ["OF_A_MODEL", "Answering"]

OF_A_MODEL = ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics")
"""What is asked of a model beside its inferences."""


class Answering(Protocol):
    """A model that is answered here."""

    @property
    def ready(self) -> bool:
        """Return whether it can answer."""
        ...

    async def infer(self, call: Call, body: bytes) -> Reply:
        """Answer `ModelInfer`."""
        ...

    async def about(self, call: Call, body: bytes) -> Reply:
        """Answer what is asked of the model itself (`OF_A_MODEL`)."""
        ...
