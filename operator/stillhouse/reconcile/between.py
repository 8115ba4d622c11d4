"""The model between the small and the larger one of a cascade: what serves of it here, and why it cannot be built with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.api.model import DistilledModel
from stillhouse.planning.request import middle_uri
from stillhouse.reconcile.observed import Observed
from stillhouse.resources.wanted import Between

__all__ = ["bind_middle", "middle_of"]

_FIELD = "spec.edge.cascade.middle"


def middle_of(record: Mapping[str, Any]) -> Between | None:
    """Return the model between that the cascade of a ModelRevision was solved with."""
    middle = record.get("middle") or {}
    return Between(str(middle["model"]), str(middle["digest"])) if middle.get("digest") else None


def bind_middle(model: DistilledModel, observed: Observed) -> tuple[dict[str, str], str]:
    """Return what the name of the model between stands for, nothing where there is none; and why it cannot be used, or "".

    It is what serves now: a new revision of it is another request, so that the thresholds are solved anew. Steps that do not
    depend on it are in the store.
    """
    cascade = model.spec.edge.cascade if model.spec.edge else None
    middle = cascade.middle if cascade else None
    if middle is None:
        return {}, ""
    if middle.model == model.metadata.name:
        return {}, f"{_FIELD}.model: a model does not stand between itself and a larger one"
    body = observed.middle
    if body is None:
        return {}, f"{_FIELD}.model: there is no DistilledModel {middle.model} in {observed.owner.namespace}"
    if middle.address is None and "edge" in (body.get("spec") or {}):
        return {}, (
            f"{_FIELD}.model: {middle.model} has a gateway of its own (spec.edge), and its pods answer nobody else; remove that,"
            f" or write {_FIELD}.address"
        )
    digest = ((body.get("status") or {}).get("revision") or {}).get("digest")
    if not digest:
        return {}, f"{_FIELD}.model: no revision of {middle.model} has been accepted yet; this model is built once one is"
    return {middle_uri(middle.model): str(digest)}, ""
