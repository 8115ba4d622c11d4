"""Who answers, and what an answer is: `engine.EngineLeg` in this process, `remote.RemoteLeg` on a server of the protocol."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stillhouse.edge.away.quantiles import Quantiles
from stillhouse.edge.cascade.question import Question
from stillhouse.inference.confidence import Neighbours

__all__ = ["Leg", "Rows", "told_digest"]

Values = npt.NDArray[np.float32]
_LONGEST = 4096
"""Bytes of what a server says of a row; of ours some two hundred."""


def told_digest(provenance: bytes) -> str:
    """Return the digest that a server tells of a row; empty where it tells none, or something that cannot be one."""
    return _told_digest(provenance) if len(provenance) <= _LONGEST else ""


@functools.lru_cache(256)  # what rows say differs by few values
def _told_digest(provenance: bytes) -> str:
    try:
        said = json.loads(provenance)
    except (ValueError, RecursionError):
        return ""
    digest = said.get("digest") if isinstance(said, dict) else None
    return digest if isinstance(digest, str) and digest.isascii() and digest.isprintable() else ""


@dataclass(slots=True)
class Rows:
    """A leg's answer to n rows: `values` float32 [n, width], embeddings or probabilities in the order of the model's labels.

    `logits`: where the leg has them. `found`: what its index gives for embeddings. `cut`: tokens left out of each text.
    `provenance`: a JSON object a row, as a server told it. `wrong`, bool [n]: rows that are no answer; None: all are.
    `other`, bool [n]: rows of another model than the calibration is of; None: none, or nobody told.
    `waited_s`, `ran_s`, `batch`: how it came about.
    """

    values: Values
    logits: Values | None = None
    found: Neighbours | None = None
    cut: Sequence[int] | None = None
    provenance: Sequence[bytes] | None = None
    wrong: npt.NDArray[np.bool_] | None = None
    other: npt.NDArray[np.bool_] | None = None
    waited_s: float = 0.0
    ran_s: float = 0.0
    batch: int = 0


class Leg(Protocol):
    """Who answers. `name` is what LEG says; `latencies` are seconds of its answers, and of those that did not come in time."""

    name: str
    variant: str
    digest: str
    gives_logits: bool
    latencies: Quantiles

    @property
    def ready(self) -> bool:
        """Return whether there is anybody to ask."""
        ...

    async def ask(self, question: Question, until: float) -> Rows:
        """Answer until this time of the legs' clock (infinite: whenever).

        Raises:
            RpcError: as it ended; DEADLINE_EXCEEDED at that time.
        """
        ...

    async def close(self) -> None:
        """Take no more, and end."""
        ...
