"""Which pods are scraped: those that are ready, of models whose number may change. Kept from what watches and lists tell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stillhouse.clients.kube.kinds import MODEL, POD, Kind
from stillhouse.resources import labels
from stillhouse.triton.profile import choose

__all__ = ["WATCHED", "Key", "Target", "Targets", "instances_of", "may_scale"]

Key = tuple[str, str]
"""Namespace and name of a model."""

WATCHED: Mapping[Kind, str] = {MODEL: "", POD: f"{labels.MODEL},{labels.COMPONENT}=serve"}
"""What is watched, with the label selector that the server applies."""


@dataclass(frozen=True, slots=True)
class Target:
    """A pod that is asked. `uid` tells it from one of the same name before it, `address` is its IP."""

    uid: str
    model: str
    address: str
    instances: float


class Targets:
    """The models that may scale and their ready pods."""

    def __init__(self) -> None:
        self.kinds = WATCHED
        self._scaling: set[Key] = set()
        self._pods: dict[tuple[str, str], tuple[Key, Target]] = {}

    def see(self, event: str, body: Mapping[str, Any]) -> None:
        """Take in what a watch tells; `event` is DELETED where the object is gone."""
        meta = body["metadata"]
        place = (meta["namespace"], meta["name"])
        gone = event == "DELETED"
        if body["kind"] == MODEL.name:
            if may_scale(body) and not gone:
                self._scaling.add(place)
            else:
                self._scaling.discard(place)
            return
        target = None if gone else _target(body)
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

    def replace(self, kind: Kind, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Make what is known of a kind what a list says."""
        listed = list(bodies)
        places = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in listed}
        if kind is MODEL:
            self._scaling &= places
        else:
            self._pods = {place: each for place, each in self._pods.items() if place in places}
        for body in listed:
            self.see("", body)

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
    return Target(str(meta.get("uid", "")), str(model), str(address), instances_of(pod))


def instances_of(pod: Mapping[str, Any]) -> float:
    """Return how many batches a pod runs at a time, from the settings that it is started with.

    The model's size is not known here: of models above 256 MiB that leave `threads` to us it says up to four times too many.
    """
    for container in (pod.get("spec") or {}).get("containers") or []:
        for variable in container.get("env") or []:
            if variable.get("name") == "STILLHOUSE_SERVE":
                try:
                    serve = json.loads(variable.get("value") or "{}")
                    if serve.get("gpus"):  # the model is on each of them; what is beside it on CPUs does not count
                        return float(serve["gpus"] * (serve.get("instances") or 1))
                    return float(
                        choose(
                            float(serve.get("cpus") or 1.0), instances=serve.get("instances"), threads=serve.get("threads")
                        ).instances
                    )
                except (ValueError, TypeError, AttributeError):
                    return 1.0
    return 1.0
