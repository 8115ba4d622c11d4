"""What comes from outside, as steps: models, rows, and the user's functions."""

from __future__ import annotations

from typing import Any

from stillhouse.api.source import DataSource, Factory, ModelSource, columns_of
from stillhouse.planning.plan import Environment, StepDraft

__all__ = ["DATA", "TEACHER", "factory", "import_data", "import_model"]

TEACHER, DATA = "resolve/source", "resolve/data"


def import_model(step_id: str, uri: str, source: ModelSource, env: Environment) -> StepDraft:
    """Draft the import of a model. `source`: what its user says of it."""
    image = None
    if source.image:
        channels = source.image.channels
        image = {
            "height": source.image.height,
            "width": source.image.width,
            "channels": channels,
            "mean": [float(value) for value in source.image.mean] or [0.0] * channels,
            "std": [float(value) for value in source.image.std] or [1.0] * channels,
        }
    config = {
        "digest": env.pins[uri].digest,
        "task": source.task,
        "maxLength": source.max_length,
        "labels": list(source.labels) or None,
        "image": image,
        "factory": factory(source.factory, env),
        **_features(source),
    }
    return StepDraft(step_id, "resolve", "import-model", config, uri=uri)


def _features(source: ModelSource) -> dict[str, Any]:
    """Return the form of inputs that are numbers, where the task has them alone: other steps keep their keys."""
    form = source.features
    if form is None:
        return {}
    if form.columns is not None:
        return {"features": {"columns": list(form.columns)}}
    return {"features": {"length": form.length, "channels": form.channels or 1}}


def factory(factory: Factory | None, env: Environment) -> dict[str, Any] | None:
    """Return a factory with the digest of the file that it lies in, so that a changed function is another step."""
    if factory is None:
        return None
    pin = env.pins.get(f"factory:{factory.target}")
    return {
        "target": factory.target,
        "arguments": dict(factory.arguments),
        "digest": pin.digest if pin else "",
    }


def import_data(step_id: str, data: DataSource, source: ModelSource, env: Environment) -> StepDraft:
    """Draft the import of rows."""
    config = {
        "digest": env.pins[data.uri].digest,
        "columns": columns_of(data),
        "maxRows": data.max_rows,
        **_features(source),
    }
    return StepDraft(step_id, "resolve", "import-data", config, uri=data.uri)
