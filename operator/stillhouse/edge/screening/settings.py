"""What the guard and the audit log of a gateway are built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stillhouse.edge.guard.patterns import Rule
from stillhouse.edge.guard.shapes import Bounds, Input

__all__ = ["AuditSettings", "ScreenSettings"]


@dataclass(frozen=True, slots=True)
class ScreenSettings:
    """What requests may hold.

    `rows`: of a request, where the model allows more. `texts`: names of the BYTES inputs that are text. None: all BYTES
    are, but those of a model of images, and, where there are no patterns, what is not UTF-8.
    `unknown`: what becomes of requests while no backend tells what the model takes. `refuse`: UNAVAILABLE; `forward`: they go on
    when they fit themselves, and patterns hold for all of their BYTES. `patience_s`: how long a backend may take to tell;
    `again_s`: the shortest time between two questions.
    """

    bounds: Bounds = field(default_factory=Bounds)
    rows: int = 1024
    patterns: tuple[Rule, ...] = ()
    texts: tuple[str, ...] | None = None
    unknown: Literal["refuse", "forward"] = "refuse"
    patience_s: float = 2.0
    again_s: float = 1.0

    def taken(self, name: str, datatype: str, shape: tuple[int, ...], *, optional: bool = False, images: bool = False) -> Input:
        """Return an input of a model as the guard knows it. `images`: it is a model of images."""
        text = datatype == "BYTES" and (not images if self.texts is None else name in self.texts)
        return Input(name, datatype, shape, optional, text, files=text and self.texts is None and not self.patterns)


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """The audit log. Nobody else writes into `folder`.

    `required`: no answer without a record; else what cannot be written is counted, and told by a gap. `key`: file of the log's
    key. `raw`: keep inputs, `most` bytes of each. `keep_s`: how long files are kept, None: as long as there is room. `size`:
    bytes of all files. `known`: model → what is recorded of it where its answers do not say (`variant`, `digest`).
    `retry_s`: between two tries to open a log that could not be opened.
    """

    folder: Path
    required: bool = False
    key: Path | None = None
    raw: bool = False
    most: int = 16 << 10
    keep_s: float | None = 90 * 86400.0
    size: int = 1 << 30
    known: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    retry_s: float = 30.0
