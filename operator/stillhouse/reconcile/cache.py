"""The last known body of every object that we watch, and which model each belongs to."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Set

from stillhouse.clients.kube.kinds import by_name
from stillhouse.clients.kube.versions import Lately, version_of
from stillhouse.planning.circles import asked_of, circle
from stillhouse.reconcile.kept import Kept
from stillhouse.reconcile.observed import Agreement, Body, Observed, number_of, revisions_newest_first
from stillhouse.resources import labels, names

__all__ = ["Cache", "Key", "key_of"]

Key = tuple[str, str]
"""Namespace and name of a model."""

_MODEL, _REVISION, _POD, _CONFIG_MAP = "DistilledModel", "ModelRevision", "Pod", "ConfigMap"
_JOB = "Job"


def key_of(body: Body) -> Key | None:
    """Return the model that an object belongs to: itself, or the one that its label names.

    The bindings of a namespace belong to all of its models: their key has no name.
    """
    metadata = body["metadata"]
    if body.get("kind") == _CONFIG_MAP:
        return (metadata.get("namespace", ""), "") if metadata["name"] == labels.SOURCES_NAME else None
    name = metadata["name"] if body.get("kind") == _MODEL else (metadata.get("labels") or {}).get(labels.MODEL)
    return (metadata.get("namespace", ""), name) if name else None


def _middle(model: Body) -> str:
    """Return the name of the model between, as somebody wrote it; empty where there is none."""
    found: object = model.get("spec")
    for part in ("edge", "cascade", "middle", "model"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


class Cache:
    """Objects by kind and place. It lags behind the server: whoever writes by it writes conditionally."""

    def __init__(self) -> None:
        self._objects: dict[Key, dict[tuple[str, str], Kept]] = {}
        self._written: Lately[tuple[str, int]] = Lately()
        self._dead: Lately[str] = Lately()
        self._told: dict[str, str] = {}
        self._agreed: dict[Key, Agreement] = {}
        self._building: set[Key] = set()
        self._between: set[Key] = set()
        self._middles: dict[Key, Key] = {}
        self._asked: dict[Key, str] = {}
        self._stirred: set[Key] = set()

    def put(self, body: Body) -> Iterable[Key]:
        """Keep an object unless a newer one is known; return the models whose work could be another now.

        An autoscaler's status, which is written every few seconds, is nobody's work, and an echo of our own write neither.
        """
        key = key_of(body)
        if key is None:
            return ()
        if version_of(body["metadata"]) <= self._dead.version(str(body["metadata"].get("uid", ""))):
            return ()  # the answer to a write, or a list, that was overtaken by the news of the object's end
        place = (sys.intern(body["kind"]), body["metadata"]["name"])
        objects = self._objects.setdefault(key, {})
        known = objects.get(place)
        if known is not None and known.uid == body["metadata"].get("uid"):
            version = version_of(body["metadata"])
            if version < known.version or (version == known.version and version):
                return ()
            objects[place] = kept = Kept(body)
            self._count(key, place[0])
            around = self._relate(key, body)
            return (*self._concerned(key, place[0]), *around) if kept.matter != known.matter else ()
        objects[place] = Kept(body)
        self._count(key, place[0])
        around = self._relate(key, body)
        return (*self._concerned(key, place[0]), *around)

    def wrote(self, body: Body) -> None:
        """Keep what the answer to a write of ours had; its echo by a watch needs no reading (`is_echo`)."""
        self._written.note((by_name(body["kind"]).plural, version_of(body["metadata"])))
        self._stirred.update(each for each in self.put(body) if each != key_of(body))

    def stirred(self) -> set[Key]:
        """Return the models that writes of ours to other models concern, and forget them."""
        found, self._stirred = self._stirred, set()
        return found

    def is_echo(self, plural: str, version: int) -> bool:
        """Return whether an object of that version is one that `wrote` was given; asked once, it is forgotten."""
        return self._written.pop((plural, version)) >= 0

    def drop(self, body: Body) -> Iterable[Key]:
        """Forget an object that was deleted, unless another of its name is known; return the models that it concerns."""
        key = key_of(body)
        if key is None:
            return ()
        uid = str(body["metadata"].get("uid", ""))
        # By version: one that only lost our label is gone for this watch, and comes back.
        self._dead.note(uid, version_of(body["metadata"]))
        around = self._forget(key, (body["kind"], body["metadata"]["name"]), uid)
        return (*self._concerned(key, body["kind"]), *around)

    def versions(self, kind: str) -> dict[tuple[Key, str], int]:
        """Return the version of every object of a kind; take it before a list, for `replace`."""
        return {
            (key, place[1]): kept.version
            for key, objects in self._objects.items()
            for place, kept in objects.items()
            if place[0] == kind
        }

    def replace(self, kind: str, bodies: Iterable[Body], before: Mapping[tuple[Key, str], int]) -> set[Key]:
        """Make what is known of a kind what a list says; return the models whose objects were missing, newer or gone.

        What came by a watch while the list was under way (it is not in `before`, or newer) is not in the list, and stays.
        """
        listed = {(key_of(body), body["metadata"]["name"]): body for body in bodies}
        touched: set[Key] = set()
        for (key, name), version in before.items():
            known = self._objects.get(key, {}).get((kind, name))
            if (key, name) not in listed and known is not None and known.version == version:
                touched.update(self._forget(key, (kind, name), known.uid))
                touched.update(self._concerned(key, kind))
        for body in listed.values():
            touched.update(self.put(body))
        return touched

    def _concerned(self, key: Key, kind: str) -> Iterable[Key]:
        """Return whose work an object of a key is. A model's is that of those, too, whose cascade has it between."""
        if not key[1]:
            return [each for each in self._objects if each[0] == key[0] and each[1]]
        return (key, *(each for each, of in self._middles.items() if of == key)) if kind == _MODEL else (key,)

    def _relate(self, key: Key, body: Body) -> list[Key]:
        """Keep which model a model's cascade has between, and whom its gateway asks; return whose circle that opens or closes."""
        if body["kind"] != _MODEL:
            return []
        name = _middle(body)
        if name:
            self._middles[key] = (key[0], name)
        else:
            self._middles.pop(key, None)
        return self._asks(key, asked_of(body.get("spec")))

    def _asks(self, key: Key, name: str) -> list[Key]:
        """Keep whom a model's gateway asks, "": nobody; return the other models of the circles that were and are now."""
        if self._asked.get(key, "") == name:
            return []
        before = self._circle(key)
        if name:
            self._asked[key] = name
        else:
            self._asked.pop(key, None)
        return [(key[0], each) for each in sorted({*before, *self._circle(key)} - {key[1]})]

    def _circle(self, key: Key) -> tuple[str, ...]:
        return circle(key[1], lambda name: self._asked.get((key[0], name), "")) if key in self._asked else ()

    def _forget(self, key: Key, place: tuple[str, str], uid: str) -> list[Key]:
        around: list[Key] = []
        objects = self._objects.get(key, {})
        known = objects.get(place)
        if known is not None and known.uid == uid:
            del objects[place]
            if not objects:
                self._objects.pop(key, None)
            if place[0] == _MODEL:
                self._middles.pop(key, None)
                around = self._asks(key, "")
            self._count(key, place[0])
        return around

    def models(self) -> Iterator[Key]:
        """Yield every model that is known."""
        for key, objects in self._objects.items():
            if (_MODEL, key[1]) in objects:
                yield key

    def building(self) -> Set[Key]:
        """Return the models of which a Job goes on; one that Kueue has not let go yet keeps nobody else waiting.

        What is returned changes with the cache.
        """
        return self._building

    def between(self) -> Set[Key]:
        """Return the models whose Jobs have all ended: between two stages, or before the build's record."""
        return self._between

    def _count(self, key: Key, kind: str) -> None:
        """Look anew whether a model's build goes on, by its own Jobs: whoever may label a Job may not stop all builds with it.

        Jobs that have ended stay until their build has its record, or their model goes.
        """
        if kind not in (_JOB, _MODEL):
            return
        objects = self._objects.get(key, {})
        model = objects.get((_MODEL, key[1]))
        jobs = {kept.job for (of, _), kept in objects.items() if of == _JOB and model is not None and kept.owner == model.uid}
        (self._building.add if "active" in jobs else self._building.discard)(key)
        between = jobs == {"ended"} and model is not None and not model.leaving
        (self._between.add if between else self._between.discard)(key)

    def workers(self) -> Iterator[tuple[Key, str, str]]:
        """Yield the pods of Jobs that go on and can be asked how far they are: model, uid and address of each.

        Of several that train together number 0 tells.
        """
        for key, objects in self._objects.items():
            jobs = {kept.uid for kept in objects.values() if kept.job == "active"}
            if not jobs:
                continue
            for (kind, _), kept in objects.items():
                body = kept.body() if kind == _POD else {}
                status = body.get("status") or {}
                owners = body.get("metadata", {}).get("ownerReferences") or []
                if status.get("phase") != "Running" or not status.get("podIP") or number_of(body):
                    continue
                if any(each.get("uid") in jobs for each in owners):
                    yield key, kept.uid, str(status["podIP"])

    def gateways(self) -> Iterator[Key]:
        """Yield the models that have a gateway's workload."""
        for key, objects in self._objects.items():
            if (_MODEL, key[1]) in objects:
                name = names.gateway(key[1])
                if ("Deployment", name) in objects or ("DaemonSet", name) in objects:
                    yield key

    def agree(self, key: Key, agreement: Agreement) -> None:
        """Keep what a model's gateways say of their agreement."""
        self._agreed[key] = agreement

    def keep_agreed(self, keys: Set[Key]) -> None:
        """Forget what those of other models said."""
        self._agreed = {key: each for key, each in self._agreed.items() if key in keys}

    def bodies(self, namespace: str, kind: str) -> Iterator[Body]:
        """Yield the objects of a kind in a namespace."""
        for (space, _), objects in self._objects.items():
            for (of, _), kept in objects.items() if space == namespace else ():
                if of == kind:
                    yield kept.body()

    def tell(self, uid: str, text: str) -> bool:
        """Keep what a build's pod says of itself; return whether that is news."""
        news = self._told.get(uid) != text
        self._told[uid] = text
        return news

    def keep_told(self, uids: Set[str]) -> None:
        """Forget what other pods said."""
        self._told = {uid: text for uid, text in self._told.items() if uid in uids}

    def observe(self, key: Key) -> Observed | None:
        """Return what is known of a model, None where there is no such model."""
        objects = self._objects.get(key, {})
        if (_MODEL, key[1]) not in objects:
            return None
        bodies = {place: kept.body() for place, kept in objects.items()}
        model = bodies[_MODEL, key[1]]
        apart = (_MODEL, _REVISION, _POD)
        revisions = [each for (kind, _), each in bodies.items() if kind == _REVISION]
        return Observed(
            model=model,
            revisions=revisions_newest_first(revisions, model["metadata"]["uid"]),
            children={place: each for place, each in bodies.items() if place[0] not in apart},
            pods=tuple(each for (kind, _), each in bodies.items() if kind == _POD),
            sources=self._sources(key[0]),
            told={kept.uid: self._told[kept.uid] for kept in objects.values() if kept.uid in self._told} if self._told else {},
            agreement=self._agreed.get(key),
            middle=self._model(self._middles.get(key)),
            circle=self._circle(key),
        )

    def _model(self, key: Key | None) -> Body | None:
        kept = self._objects.get(key, {}).get((_MODEL, key[1])) if key else None
        return kept.body() if kept else None

    def _sources(self, namespace: str) -> dict[str, str]:
        kept = self._objects.get((namespace, ""), {}).get((_CONFIG_MAP, labels.SOURCES_NAME))
        data = (kept.body().get("data") or {}) if kept else {}
        # A key of a ConfigMap has no colon: models.minilm stands for models:minilm.
        return {name.replace(".", ":", 1): str(uri) for name, uri in data.items()}
