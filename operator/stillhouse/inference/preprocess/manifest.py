"""What steps exist: one line each; nothing here imports what it names.

The version is part of a chain's digest: raise it (here and in the class) when the same tensors would give others.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

__all__ = ["STEPS", "StepEntry", "load_step"]


@dataclass(frozen=True, slots=True)
class StepEntry:
    """A kind of step: where it lives, as `module:Class`, and the packages beside numpy that it needs."""

    kind: str
    version: int
    target: str
    needs: tuple[str, ...] = ()


_HERE = "stillhouse.inference.preprocess"
STEPS: dict[str, StepEntry] = {
    entry.kind: entry
    for entry in (
        StepEntry("tokenise", 1, f"{_HERE}.tokenise:Tokenise", ("tokenizers",)),
        StepEntry("image", 1, f"{_HERE}.image:DecodeImage", ("PIL",)),
        StepEntry("window", 1, f"{_HERE}.window:Window"),
        StepEntry("statistics", 1, f"{_HERE}.statistics:Statistics"),
        StepEntry("normalise", 1, f"{_HERE}.normalise:Normalise"),
        StepEntry("python", 1, f"{_HERE}.python:PythonStep"),
    )
}


def load_step(kind: str) -> Any:
    """Import a kind's class and return it."""
    module, _, attribute = STEPS[kind].target.partition(":")
    return getattr(importlib.import_module(module), attribute)
