"""Commands that need a model, for files that have none: steps before another one are run by a gateway."""

from __future__ import annotations

from pathlib import Path

from stillhouse.api.model import DistilledModel
from stillhouse.errors import UsageError
from stillhouse.planning.steps import steps_of

__all__ = ["require_model"]


def require_model(model: DistilledModel, file: Path, verb: str) -> None:
    """Refuse a file that is steps alone. `verb`: what the command would do with a model, such as "serves".

    Raises:
        UsageError: there is no model.
    """
    steps = steps_of(model.spec)
    if steps is not None:
        raise UsageError(
            f"this file is steps before {steps.model}: there is no model that this command {verb}",
            field="spec.edge.preprocess",
            found=f"{len(steps.steps)} steps",
            fix=f"still edge {file} runs them; for {steps.model} give its own file",
        )
