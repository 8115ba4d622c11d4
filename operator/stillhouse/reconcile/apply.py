"""Writing one child: only where it differs, only where it is ours, and harmless if another operator does the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillhouse.clients.kube.interface import FIELD_MANAGER, AlreadyExists, Body, Conflict, Kube
from stillhouse.clients.kube.kinds import by_name
from stillhouse.errors import StillhouseError
from stillhouse.reconcile.observed import former_owner, owned
from stillhouse.reconcile.same import differences, marked, same

__all__ = ["HANDOVER", "Applied", "FormersChild", "NotOwned", "create_once", "ensure", "remove"]

HANDOVER = "stillhouse-handover"
"""Field manager that holds `replicas` from the moment we let go of them until an autoscaler writes them."""


class NotOwned(StillhouseError):
    """An object has the name that a child needs and is not ours. It is left alone."""

    reason = "NotOwned"


class FormersChild(NotOwned):
    """The object belongs to a model that had this name before and was deleted: Kubernetes is about to collect it."""

    reason = "AwaitingCollection"


@dataclass(frozen=True, slots=True)
class Applied:
    """A child as it is now, and whether it was written."""

    body: Body
    written: bool


async def ensure(kube: Kube, wanted: dict[str, Any], live: Body | None, uid: str) -> Applied:
    """Make a child what it should be. `live` is what the cache has of it, `uid` the owner's.

    Raises:
        NotOwned: an object of that name belongs to somebody else.
        KubeError: the server does not do it; `Conflict` where it changed meanwhile.
    """
    kind, meta = by_name(wanted["kind"]), wanted["metadata"]
    wanted = marked(wanted)
    if live is not None and owned(live, uid) and not live["metadata"].get("deletionTimestamp") and same(wanted, live):
        return Applied(live, written=False)
    if live is None:
        try:
            return Applied(await kube.create(kind, meta["namespace"], wanted), written=True)
        except AlreadyExists:
            pass  # the cache is behind, or it is a stranger's
    fresh = await kube.get(kind, meta["namespace"], meta["name"])
    if fresh is None:
        return Applied(await kube.create(kind, meta["namespace"], wanted), written=True)
    _require_own(fresh, uid)
    if fresh["metadata"].get("deletionTimestamp"):
        raise Conflict("the object is being deleted", field=f"{kind.name}/{meta['name']}")
    if same(wanted, fresh):
        return Applied(fresh, written=False)
    if kind.name == "RoleBinding" and fresh.get("roleRef") != wanted["roleRef"]:
        await remove(kube, fresh)  # whose role it gives can never be changed
        return Applied(await kube.create(kind, meta["namespace"], wanted), written=True)
    return Applied(await _apply(kube, wanted, fresh), written=True)


async def create_once(kube: Kube, wanted: dict[str, Any], uid: str) -> Body:
    """Create an object that is never changed afterwards; return it, also where another operator has made it already.

    Raises:
        NotOwned: an object of that name belongs to somebody else.
        KubeError: the server does not do it.
    """
    kind, meta = by_name(wanted["kind"]), wanted["metadata"]
    try:
        return await kube.create(kind, meta["namespace"], wanted)
    except AlreadyExists:
        found = await kube.get(kind, meta["namespace"], meta["name"])
        if found is None:
            raise  # it went in between: the next reconcile creates it
    _require_own(found, uid)
    return found


def _require_own(live: Body, uid: str) -> None:
    if owned(live, uid):
        return
    kind, meta = by_name(live["kind"]), live["metadata"]
    former = former_owner(live)
    if former:
        raise FormersChild(
            f"{kind.name} {meta['name']} belongs to a model of this name that was deleted (uid {former})",
            field=f"{kind.name}/{meta['name']}",
            fix="wait: Kubernetes collects it, and it is made anew",
        )
    raise NotOwned(
        f"{kind.name} {meta['name']} is there already and does not belong to this model",
        field=f"{kind.name}/{meta['name']}",
        fix=f"rename the model, or remove it: kubectl delete {kind.plural} {meta['name']} -n {meta['namespace']}",
    )


async def _apply(kube: Kube, wanted: Body, live: Body) -> Body:
    kind, meta = by_name(wanted["kind"]), wanted["metadata"]
    live = await _own_by_apply(kube, live)
    if kind.name == "Deployment":
        await _keep_replicas(kube, wanted, live)
    body = {**wanted, "metadata": {**wanted["metadata"], "uid": live["metadata"]["uid"]}}
    live = await kube.apply(kind, meta["namespace"], body)
    rest = list(differences(wanted, live))
    if rest:
        # An apply leaves what others added to a list (a port, a container). Restoring means that it goes.
        patch: list[Mapping[str, Any]] = [
            _unchanged(live),
            *({"op": "replace", "path": path, "value": value} for path, value in rest),
        ]
        live = await kube.patch(kind, meta["namespace"], meta["name"], patch)
    return live


async def remove(kube: Kube, live: Body) -> None:
    """Delete a child that is no longer wanted, with what it owns."""
    meta = live["metadata"]
    await kube.delete(by_name(live["kind"]), meta["namespace"], meta["name"], meta["uid"])


async def _own_by_apply(kube: Kube, live: Body) -> Body:
    """Turn our managed-fields entry of the POST into one of an apply: else a field that we drop would stay ours for ever."""
    meta = live["metadata"]
    entries = meta.get("managedFields") or []
    posted = [each for each in entries if _is(each, "Update")]
    if not posted:
        return live
    if any(_is(each, "Apply") for each in entries):
        changed = [each for each in entries if each not in posted]
    else:
        changed = [{**each, "operation": "Apply"} if each is posted[0] else each for each in entries if each not in posted[1:]]
    patch: list[Mapping[str, Any]] = [
        _unchanged(live),
        {"op": "replace", "path": "/metadata/managedFields", "value": changed},
    ]
    return await kube.patch(by_name(live["kind"]), meta["namespace"], meta["name"], patch)


def _unchanged(live: Body) -> dict[str, Any]:
    return {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]}


def _is(entry: Body, operation: str) -> bool:
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == operation and not entry.get("subresource")


async def _keep_replicas(kube: Kube, wanted: Body, live: Body) -> None:
    """Before `replicas` is dropped: hand it to a manager that keeps the number which runs."""
    if "replicas" in wanted["spec"]:
        return
    ours = any(_is(each, "Apply") and "f:replicas" in (each.get("fieldsV1") or {}).get("f:spec", {}) for each in _entries(live))
    if ours:
        # An apply holds a field although its value stays; any other write holds only what it changes.
        meta = {part: live["metadata"][part] for part in ("name", "namespace", "uid")}
        held = {
            "apiVersion": live["apiVersion"],
            "kind": live["kind"],
            "metadata": meta,
            "spec": {"replicas": live["spec"]["replicas"]},
        }
        await kube.apply(by_name("Deployment"), meta["namespace"], held, manager=HANDOVER)


def _entries(live: Body) -> list[Body]:
    found: list[Body] = live["metadata"].get("managedFields") or []
    return found
