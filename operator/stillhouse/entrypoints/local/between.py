"""The model between the small and the larger one of a cascade: what was built of it in this store."""

from __future__ import annotations

from stillhouse.api.model import DistilledModel
from stillhouse.clients.sources import Resolved
from stillhouse.clients.store.local import LocalStore
from stillhouse.errors import SourceError
from stillhouse.planning.plan import Pin
from stillhouse.planning.request import middle_uri

__all__ = ["find_middle"]

_FIELD = "spec.edge.cascade.middle.model"


def find_middle(model: DistilledModel, store: LocalStore, digest: str | None = None) -> tuple[Resolved, Pin] | None:
    """Return where it lies and its digest, None where the cascade has none.

    `digest`: of what serves of it, as an operator knows (None: what this store holds as its revision).

    Raises:
        SourceError: nothing has been built of it here, it is damaged, or it is the model itself.
    """
    cascade = model.spec.edge.cascade if model.spec.edge else None
    if cascade is None or cascade.middle is None:
        return None
    name = cascade.middle.model
    if name == model.metadata.name:
        raise SourceError("a model does not stand between itself and a larger one", field=_FIELD, found=name, fix="name another")
    digest = digest or (store.state(name).get("revision") or {}).get("digest")
    if not digest:
        raise SourceError(
            "nothing has been built of the model between, in this store",
            field=_FIELD,
            found=name,
            fix=f"still build the file of {name} first",
        )
    problem = store.objects.check(digest)
    if problem:
        raise SourceError(
            "what was built of the model between is damaged", field=_FIELD, found=f"{name}: {problem}", fix="build it again"
        )
    uri = middle_uri(name)
    return Resolved(f"{uri}@{digest}", digest, store.objects.opened(digest), uri), Pin(digest, store.objects.size(digest))
