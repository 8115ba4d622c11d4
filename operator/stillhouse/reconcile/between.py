"""The model between the small and the larger one of a cascade: what serves of it here, and why it cannot be built with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillhouse.api.model import DistilledModel
from stillhouse.planning.request import middle_uri
from stillhouse.reconcile.observed import Observed
from stillhouse.resources.wanted import Between

__all__ = ["Bound", "bind_middle", "middle_of"]

_FIELD = "spec.edge.cascade.middle"


def middle_of(record: Mapping[str, Any]) -> Between | None:
    """Return the model between that the cascade of a ModelRevision was solved with."""
    middle = record.get("middle") or {}
    return Between(str(middle["model"]), str(middle["digest"])) if middle.get("digest") else None


@dataclass(frozen=True, slots=True)
class Bound:
    """What the name of the model between stands for, nothing where there is none.

    `wrong`: why it cannot be used; `waits`: for what a build waits.
    """

    digest: Mapping[str, str] = field(default_factory=dict)
    wrong: str = ""
    waits: str = ""


def bind_middle(model: DistilledModel, observed: Observed) -> Bound:
    """Return what the name of the model between stands for: what serves of it now.

    So a new revision of it is another request, and the thresholds are solved anew. Steps that do not depend on it are found in
    the store.
    """
    cascade = model.spec.edge.cascade if model.spec.edge else None
    middle = cascade.middle if cascade else None
    if middle is None:
        return Bound()
    if middle.model == model.metadata.name:
        return Bound(wrong=f"{_FIELD}.model: a model does not stand between itself and a larger one")
    body = observed.middle
    if body is None:
        return Bound(wrong=f"{_FIELD}.model: there is no DistilledModel {middle.model} in {observed.owner.namespace}")
    if middle.address is None and "edge" in (body.get("spec") or {}):
        return Bound(
            wrong=f"{_FIELD}.model: {middle.model} has a gateway of its own (spec.edge), and its pods answer nobody else;"
            f" remove that, or write {_FIELD}.address"
        )
    digest = ((body.get("status") or {}).get("revision") or {}).get("digest")
    if not digest:
        return Bound(waits=f"waits for the first accepted revision of {middle.model}, which stands between")
    return Bound({middle_uri(middle.model): str(digest)})
