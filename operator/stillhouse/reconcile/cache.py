"""The last known body of every object that we watch, and which model each belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stillhouse.reconcile.observed import Body, Observed, revisions_newest_first
from stillhouse.resources import labels

__all__ = ["SOURCES_LABEL", "SOURCES_NAME", "Cache", "Key", "key_of"]

Key = tuple[str, str]
"""Namespace and name of a model."""

SOURCES_NAME = "stillhouse-sources"
"""ConfigMap of a namespace that binds named sources to URIs."""

SOURCES_LABEL = "stillhouse.io/sources=bindings"
"""Label of that ConfigMap: without it each ConfigMap of the cluster would stream by."""

_MODEL, _REVISION, _POD, _CONFIG_MAP = "DistilledModel", "ModelRevision", "Pod", "ConfigMap"


def key_of(body: Body) -> Key | None:
    """Return the model that an object belongs to: itself, or the one that its label names."""
    metadata = body["metadata"]
    name = metadata["name"] if body.get("kind") == _MODEL else (metadata.get("labels") or {}).get(labels.MODEL)
    return (metadata.get("namespace", ""), name) if name else None


class Cache:
    """Objects by kind and place. It lags behind the server: whoever writes by it writes conditionally."""

    def __init__(self) -> None:
        self._objects: dict[Key, dict[tuple[str, str], Body]] = {}
        self._sources: dict[str, dict[str, str]] = {}

    def put(self, body: Body) -> Iterable[Key]:
        """Keep an object unless a newer one is known; return the models whose work could be another now.

        An autoscaler's status, which is written every few seconds, is nobody's work, and an echo of our own write neither.
        """
        if body["kind"] == _CONFIG_MAP:
            return self._bind(body, body.get("data") or {})
        key = key_of(body)
        if key is None:
            return ()
        place = (body["kind"], body["metadata"]["name"])
        objects = self._objects.setdefault(key, {})
        known = objects.get(place)
        slim = _slim(body)
        if known is not None and known["metadata"].get("uid") == slim["metadata"].get("uid"):
            if _version(slim) < _version(known):
                return ()
            objects[place] = slim
            return (key,) if _matters(known, slim) else ()
        objects[place] = slim
        return (key,)

    def drop(self, body: Body) -> Iterable[Key]:
        """Forget an object that was deleted, unless another of its name is known; return the models that it concerns."""
        if body["kind"] == _CONFIG_MAP:
            return self._bind(body, {})
        key = key_of(body)
        if key is None:
            return ()
        place = (body["kind"], body["metadata"]["name"])
        objects = self._objects.get(key, {})
        known = objects.get(place)
        if known is not None and known["metadata"].get("uid") == body["metadata"].get("uid"):
            del objects[place]
            if not objects:
                self._objects.pop(key, None)
        return (key,)

    def replace(self, kind: str, bodies: Iterable[Body]) -> set[Key]:
        """Make what is known of a kind what a list says; return the models whose objects were missing, newer or gone."""
        listed = {(key_of(body), body["metadata"]["name"]): body for body in bodies}
        touched: set[Key] = set()
        for key, objects in list(self._objects.items()):
            for place in [place for place in objects if place[0] == kind and (key, place[1]) not in listed]:
                touched.update(self.drop(objects[place]))
        for (place_of, name), body in listed.items():
            known = self._objects.get(place_of, {}).get((kind, name)) if place_of else None
            if known is None or known["metadata"].get("resourceVersion") != body["metadata"].get("resourceVersion"):
                touched.update(self.put(body))
        return touched

    def models(self) -> Iterator[Key]:
        """Yield every model that is known."""
        for key, objects in self._objects.items():
            if (_MODEL, key[1]) in objects:
                yield key

    def observe(self, key: Key) -> Observed | None:
        """Return what is known of a model, None where there is no such model."""
        objects = self._objects.get(key, {})
        model = objects.get((_MODEL, key[1]))
        if model is None:
            return None
        apart = (_MODEL, _REVISION, _POD)
        revisions = [each for (kind, _), each in objects.items() if kind == _REVISION]
        return Observed(
            model=model,
            revisions=revisions_newest_first(revisions, model["metadata"]["uid"]),
            children={place: each for place, each in objects.items() if place[0] not in apart},
            pods=tuple(each for (kind, _), each in objects.items() if kind == _POD),
            sources=self._sources.get(key[0], {}),
        )

    def _bind(self, body: Body, data: dict[str, Any]) -> list[Key]:
        metadata = body["metadata"]
        if metadata["name"] != SOURCES_NAME:
            return []
        # A key of a ConfigMap has no colon: models.minilm stands for models:minilm.
        self._sources[metadata["namespace"]] = {name.replace(".", ":", 1): str(uri) for name, uri in data.items()}
        return [key for key in self._objects if key[0] == metadata["namespace"]]


def _slim(body: Body) -> Body:
    """Leave out what nobody reads: field managers are more than half of an object; whoever writes asks for them anew."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    return {**body, "metadata": metadata}


_STATUS_COUNTS = (_MODEL, "Deployment", "Job", _POD)
_META = ("labels", "annotations", "ownerReferences", "deletionTimestamp")


def _matters(known: Body, new: Body) -> bool:
    parts = ["spec", "status"] if new["kind"] in _STATUS_COUNTS else ["spec"]
    if any(known.get(part) != new.get(part) for part in parts):
        return True
    return any(known["metadata"].get(part) != new["metadata"].get(part) for part in _META)


def _version(body: Body) -> int:
    text = str(body["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0
