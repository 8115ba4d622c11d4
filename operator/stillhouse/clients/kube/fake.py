"""An API server in memory: enough of one to test what is decided, and what happens between two writers.

It keeps uid, resourceVersion and generation, refuses what a server refuses (409, 404, uid and version that do not fit), drops
what an apply no longer names, and deletes what a deleted object owned. It knows no schema and fills in no defaults.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stillhouse.clients.kube.interface import FIELD_MANAGER, Body, refusal
from stillhouse.clients.kube.kinds import Kind

__all__ = ["FakeKube"]

Key = tuple[str, str, str]
_ATOMIC = ("selector", "podSelector", "namespaceSelector", "labelSelector")


class FakeKube:
    """`Kube` in memory. `writes` lists (verb, kind, namespace/name) of all that changed something; `watchers` see each change.

    `before` is called with (verb, kind, name) before every request: a test raises there what a server or a crash would.
    """

    def __init__(self) -> None:
        self.writes: list[tuple[str, str, str]] = []
        self.watchers: list[Callable[[str, Body], None]] = []
        self.unknown: set[str] = {"Nothing"}
        """Kinds that this server does not know."""
        self.before: Callable[[str, Kind, str], None] = lambda verb, kind, name: None
        self._objects: dict[Key, Body] = {}
        self._applied: dict[Key, Body] = {}
        self._held: dict[Key, set[tuple[str, ...]]] = {}
        self._numbers = itertools.count(1)

    # Kube ---------------------------------------------------------------------------------------------------------------

    async def serves(self, kind: Kind) -> bool:
        """Return whether the server knows a kind."""
        self.before("discover", kind, "")
        return kind.name not in self.unknown

    async def get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Return an object, None where there is none."""
        self.before("get", kind, name)
        return copy.deepcopy(self._objects.get((kind.name, namespace, name)))

    async def look(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Return an object's metadata alone, None where there is none."""
        found = await self.get(kind, namespace, name)
        if found is None:
            return None
        return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": found["metadata"]}

    async def find(self, kind: Kind, namespace: str = "", labels: str = "") -> list[Body]:
        """Return the objects that a label selector (equalities only) chooses."""
        self.before("list", kind, "")
        wanted = dict(part.split("=", 1) for part in labels.split(",") if "=" in part)
        return [
            copy.deepcopy(body)
            for (name, space, _), body in sorted(self._objects.items())
            if name == kind.name
            and (not namespace or space == namespace)
            and wanted.items() <= (body["metadata"].get("labels") or {}).items()
        ]

    async def create(self, kind: Kind, namespace: str, body: Body, *, manager: str = FIELD_MANAGER) -> Body:
        """Create an object."""
        name = body["metadata"]["name"]
        self.before("create", kind, name)
        self._know(kind)
        key = (kind.name, namespace, name)
        if key in self._objects:
            raise refusal(409, "AlreadyExists", f"{name} already exists", f"POST {name}")
        number = next(self._numbers)
        made = copy.deepcopy(body)
        made["metadata"] |= {
            "namespace": namespace,
            "uid": f"uid-{number}",
            "resourceVersion": str(number),
            "generation": 1,
            "creationTimestamp": f"2026-01-01T00:{number // 60 % 60:02}:{number % 60:02}Z",
            "managedFields": [_entry("Update", kind, body)],
        }
        self._objects[key] = made
        self._applied[key] = copy.deepcopy(body)
        return self._tell("create", "ADDED", key)

    async def apply(self, kind: Kind, namespace: str, body: Body, *, manager: str = FIELD_MANAGER) -> Body:
        """Apply an object."""
        name, uid = body["metadata"]["name"], body["metadata"]["uid"]
        self.before("apply", kind, name)
        key = (kind.name, namespace, name)
        live = self._need(key)
        if live["metadata"]["uid"] != uid:
            raise refusal(
                409, "Conflict", f"uid in precondition: {uid}, in object meta: {live['metadata']['uid']}", f"PATCH {name}"
            )
        if manager != FIELD_MANAGER:
            self._held.setdefault(key, set()).update(_leaves(body))
            return self._store("apply", key, _merge(live, body))
        merged = _merge(_without(live, self._applied.get(key, {}), body, self._held.get(key, set())), body)
        merged["metadata"]["managedFields"] = [_entry("Apply", kind, body)]
        self._applied[key] = copy.deepcopy(body)
        return self._store("apply", key, merged)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Mapping[str, Any] | list[Mapping[str, Any]],
        *,
        subresource: str = "",
        manager: str = FIELD_MANAGER,
    ) -> Body:
        """Patch an object."""
        self.before(f"patch/{subresource}" if subresource else "patch", kind, name)
        key = (kind.name, namespace, name)
        live = self._need(key)
        if isinstance(patch, list):
            return self._store("patch", key, _json_patch(live, patch, name))
        asked = (patch.get("metadata") or {}).get("resourceVersion")
        if asked is not None and asked != live["metadata"]["resourceVersion"]:
            raise refusal(409, "Conflict", "the object has been modified", f"PATCH {name}")
        changes = {part: value for part, value in patch.items() if part != "metadata"} if subresource else dict(patch)
        return self._store("patch", key, _merge(live, changes, remove=True))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete an object and what it owns."""
        self.before("delete", kind, name)
        key = (kind.name, namespace, name)
        live = self._objects.get(key)
        if live is None:
            return
        if live["metadata"]["uid"] != uid:
            raise refusal(409, "Conflict", "another uid", f"DELETE {name}")
        self._drop(key)

    # for tests ----------------------------------------------------------------------------------------------------------

    def set(self, body: Body, **status: Any) -> Body:
        """Replace an object as if somebody else had, and its status."""
        key = (body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        return self._store("other", key, {**copy.deepcopy(body), **({"status": status} if status else {})})

    def names(self, kind: Kind) -> list[str]:
        """Return the names of all objects of a kind."""
        return [name for (of, _, name) in sorted(self._objects) if of == kind.name]

    def _know(self, kind: Kind) -> None:
        if kind.name in self.unknown:
            raise refusal(404, "NotFound", "the server could not find the requested resource", f"POST {kind.plural}")

    def _drop(self, key: Key) -> None:
        body = self._objects.pop(key)
        self._applied.pop(key, None)
        self._held.pop(key, None)
        self.writes.append(("delete", key[0], f"{key[1]}/{key[2]}"))
        for watcher in self.watchers:
            watcher("DELETED", copy.deepcopy(body))
        uid = body["metadata"]["uid"]
        for other in [other for other, each in self._objects.items() if _owned_by(each, uid)]:
            if other in self._objects:
                self._drop(other)

    def _need(self, key: Key) -> Body:
        if key not in self._objects:
            raise refusal(404, "NotFound", f"{key[2]} not found", f"PATCH {key[2]}")
        return copy.deepcopy(self._objects[key])

    def _store(self, verb: str, key: Key, body: Body) -> Body:
        before = self._objects[key]
        if _content(before) == _content(body):
            return copy.deepcopy(before)
        generation = before["metadata"]["generation"] + (before.get("spec") != body.get("spec"))
        body["metadata"] |= {"resourceVersion": str(next(self._numbers)), "generation": generation}
        self._objects[key] = body
        return self._tell(verb, "MODIFIED", key)

    def _tell(self, verb: str, event: str, key: Key) -> Body:
        self.writes.append((verb, key[0], f"{key[1]}/{key[2]}"))
        for watcher in self.watchers:
            watcher(event, copy.deepcopy(self._objects[key]))
        return copy.deepcopy(self._objects[key])


def _owned_by(body: Body, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in body["metadata"].get("ownerReferences") or [])


def _content(body: Body) -> str:
    metadata = {name: value for name, value in body["metadata"].items() if name not in ("resourceVersion", "generation")}
    return json.dumps({**body, "metadata": metadata}, sort_keys=True)


def _merge(live: Any, wanted: Any, *, remove: bool = False) -> Any:
    if not isinstance(live, dict) or not isinstance(wanted, Mapping):
        return copy.deepcopy(wanted)
    merged = dict(live)
    for name, value in wanted.items():
        if value is None and remove:
            merged.pop(name, None)
        elif name in _ATOMIC and not remove:
            merged[name] = copy.deepcopy(value)
        else:
            merged[name] = _merge(live.get(name), value, remove=remove)
    return merged


def _without(live: Any, before: Any, now: Any, held: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> Any:
    """Return `live` without what was applied before, is not named now and is held by nobody else."""
    if not isinstance(live, dict) or not isinstance(before, Mapping):
        return live
    kept = dict(live)
    for name, value in before.items():
        inner = (*path, name)
        if not isinstance(now, Mapping) or name not in now:
            if inner not in held:
                kept.pop(name, None)
        elif name in kept:
            kept[name] = _without(kept[name], value, now[name], held, inner)
    return kept


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield path


def _entry(operation: str, kind: Kind, body: Body) -> Body:
    fields = _fields({part: value for part, value in body.items() if part == "spec"})
    return {"manager": FIELD_MANAGER, "operation": operation, "apiVersion": kind.api_version, "fieldsV1": fields}


def _fields(value: Any) -> Body:
    return {f"f:{name}": _fields(inner) for name, inner in value.items()} if isinstance(value, Mapping) else {}


def _json_patch(live: Body, patch: list[Mapping[str, Any]], name: str) -> Body:
    for change in patch:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in str(change["path"]).split("/")[1:]]
        place: Any = live
        for part in parents:
            place = place[part]
        if change["op"] == "test":
            if place.get(last) != change["value"]:
                raise refusal(422, "Invalid", "the test failed", f"PATCH {name}")
        elif change["op"] == "remove":
            place.pop(last)
        else:
            place[last] = copy.deepcopy(change["value"])
    return live
