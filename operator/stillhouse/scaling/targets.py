"""Which pods are scraped: those that are ready, of models whose number may change. Kept from what watches and lists tell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stillhouse.clients.kube.kinds import MODEL, POD, Kind
from stillhouse.clients.kube.versions import Lately, version_of
from stillhouse.resources import labels
from stillhouse.triton.profile import choose

__all__ = ["WATCHED", "Key", "Target", "Targets", "cpus_of", "instances_of", "may_scale"]

Key = tuple[str, str]
"""Namespace and name of a model."""

WATCHED: Mapping[Kind, str] = {MODEL: "", POD: f"{labels.MODEL},{labels.COMPONENT}=serve"}
"""What is watched, with the label selector that the server applies."""


@dataclass(frozen=True, slots=True)
class Target:
    """A pod that is asked. `uid` tells it from one of the same name before it, `address` is its IP, `cpus` its CPU limit."""

    uid: str
    model: str
    address: str
    instances: float
    cpus: float | None = None


class Targets:
    """The models that may scale and their ready pods.

    What a watch tells and what a list says come in any order; the versions of objects and lists say which is the news.
    """

    def __init__(self) -> None:
        self.kinds = WATCHED
        self._scaling: set[Key] = set()
        self._pods: dict[tuple[str, str], tuple[Key, Target]] = {}
        self._versions: dict[tuple[str, tuple[str, str]], int] = {}
        self._ended: Lately[str] = Lately()

    def see(self, event: str, body: Mapping[str, Any]) -> None:
        """Take in what a watch tells, unless newer is known; `event` is DELETED where the object is gone."""
        meta = body["metadata"]
        place = (meta["namespace"], meta["name"])
        uid, version = str(meta.get("uid", "")), version_of(meta)
        if version and version < self._versions.get((body["kind"], place), 0):
            return
        if event == "DELETED":
            self._ended.note(uid, version)
            self._forget(body["kind"], place)
            return
        if version and version <= self._ended.version(uid):
            return  # a list that was overtaken by the news of the object's end
        self._versions[body["kind"], place] = version
        if body["kind"] == MODEL.name:
            (self._scaling.add if may_scale(body) else self._scaling.discard)(place)
            return
        target = _target(body)
        if target is None:
            self._pods.pop(place, None)
        else:
            self._pods[place] = ((meta["namespace"], target.model), target)

    def wrote(self, plural: str, version: int) -> bool:
        """Return False: nothing is written here, so no event is an echo."""
        return False

    def writing(self) -> bool:
        """Return False, likewise."""
        return False

    def replace(self, kind: Kind, bodies: Iterable[Mapping[str, Any]], version: int) -> None:
        """Make what is known of a kind what a list of that version says.

        What is newer than the list (it came by the watch while the list was under way, or the list is of a cache that is behind)
        stays; what had ended by then does not come back.
        """
        listed = list(bodies)
        places = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in listed}
        known = [(place, seen) for (name, place), seen in self._versions.items() if name == kind.name and place not in places]
        for place, seen in known:
            if seen <= version:
                self._forget(kind.name, place)
        for body in listed:
            self.see("", body)

    def _forget(self, kind: str, place: tuple[str, str]) -> None:
        self._versions.pop((kind, place), None)
        if kind == MODEL.name:
            self._scaling.discard(place)
        else:
            self._pods.pop(place, None)

    def by_model(self) -> dict[Key, list[Target]]:
        """Return every model that may scale, with its ready pods."""
        found: dict[Key, list[Target]] = {key: [] for key in sorted(self._scaling)}
        for key, target in self._pods.values():
            if key in found:
                found[key].append(target)
        return found


def may_scale(model: Mapping[str, Any]) -> bool:
    """Return whether a model's number of replicas is ours to judge: mode hpa, and room between least and most."""
    scale = (model.get("spec") or {}).get("scale") or {}
    mode, least, most = scale.get("mode", "hpa"), scale.get("minReplicas", 1), scale.get("maxReplicas", 1)
    return mode == "hpa" and isinstance(least, int) and isinstance(most, int) and least < most


def _target(pod: Mapping[str, Any]) -> Target | None:
    meta, status = pod["metadata"], pod.get("status") or {}
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in status.get("conditions") or [])
    model, address = (meta.get("labels") or {}).get(labels.MODEL), status.get("podIP")
    if not ready or not model or not address or meta.get("deletionTimestamp"):
        return None
    return Target(str(meta.get("uid", "")), str(model), str(address), instances_of(pod), cpus_of(pod))


def instances_of(pod: Mapping[str, Any]) -> float:
    """Return how many batches a pod runs at a time, from the settings that it is started with.

    The model's size is not known here: of models above 256 MiB that leave `threads` to us it says up to four times too many.
    """
    serve = _settings(pod)
    try:
        if serve.get("gpus"):  # the model is on each of them; what is beside it on CPUs does not count
            return float(serve["gpus"] * (serve.get("instances") or 1))
        cpus = float(serve.get("cpus") or 1.0)
        return float(choose(cpus, instances=serve.get("instances"), threads=serve.get("threads")).instances)
    except (ValueError, TypeError):
        return 1.0


def cpus_of(pod: Mapping[str, Any]) -> float | None:
    """Return a pod's CPU limit, likewise; None where it has none."""
    try:
        cpus = float(_settings(pod).get("cpus") or 0.0)
    except (ValueError, TypeError):
        return None
    return cpus if cpus > 0 else None


def _settings(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    for container in (pod.get("spec") or {}).get("containers") or []:
        for variable in container.get("env") or []:
            if variable.get("name") == "STILLHOUSE_SERVE":
                try:
                    found = json.loads(variable.get("value") or "{}")
                except ValueError:
                    return {}
                return found if isinstance(found, dict) else {}
    return {}
